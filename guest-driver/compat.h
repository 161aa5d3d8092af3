/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between the kernels that the module is built for (6.1 to 7.x).
 * Everything else is written for the newest.
 */
#ifndef VCOMPUTE_COMPAT_H
#define VCOMPUTE_COMPAT_H

#include <linux/device.h>
#include <linux/mm.h>
#include <linux/version.h>
#include <linux/virtio_compute.h>
#include <linux/virtio_config.h>

/* The device of a class's devnode(). */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define VCOMPUTE_NODE	struct device
#else
#define VCOMPUTE_NODE	const struct device
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_mod(struct vm_area_struct *vma, unsigned long set, unsigned long clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
struct virtqueue_info {
	const char *name;
	vq_callback_t *callback;
	bool ctx;
};
#endif

static inline int vcompute_find_vqs(struct virtio_device *vdev, unsigned int count, struct virtqueue *vqs[],
				    struct virtqueue_info infos[])
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
	vq_callback_t *callbacks[VIRTIO_COMPUTE_QUEUE_COUNT];
	const char *names[VIRTIO_COMPUTE_QUEUE_COUNT];
	unsigned int i;

	if (WARN_ON_ONCE(count > VIRTIO_COMPUTE_QUEUE_COUNT))
		return -EINVAL;
	for (i = 0; i < count; i++) {
		callbacks[i] = infos[i].callback;
		names[i] = infos[i].name;
	}
	return virtio_find_vqs(vdev, count, vqs, callbacks, names, NULL);
#else
	return virtio_find_vqs(vdev, count, vqs, infos, NULL);
#endif
}

/*
 * Up to 6.1, a long-term pin for reading does not break copy-on-write, so the
 * device would keep reading a page that the process has replaced by writing.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define VCOMPUTE_PIN_PRIVATE_READ_ONLY	(FOLL_WRITE | FOLL_FORCE)
#else
#define VCOMPUTE_PIN_PRIVATE_READ_ONLY	0
#endif

#endif /* VCOMPUTE_COMPAT_H */
