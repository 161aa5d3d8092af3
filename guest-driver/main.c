// SPDX-License-Identifier: GPL-2.0-only
/*
 * A virtio compute device comes and goes.
 *
 * Start:  configuration, virtqueues, device node; then the device information
 *         is fetched by work, so that nothing waits for the device (info.c).
 * Stop:   reset the device, then finish every request, then end every session;
 *         files that are still open answer ENODEV.
 */
#include <linux/module.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "compat.h"
#include "driver.h"

struct vcompute_counts vcompute_counts;
struct workqueue_struct *vcompute_wq;

/**
 * vcompute_device_get() - take a reference
 * @dev: the device
 *
 * Context: any.
 */
void vcompute_device_get(struct vcompute_device *dev)
{
	kref_get(&dev->ref);
}

static void device_release(struct kref *ref)
{
	struct vcompute_device *dev = container_of(ref, struct vcompute_device, ref);

	kfree(dev->event.buffers);
	kfree(dev);
	atomic_dec(&vcompute_counts.devices);
}

/**
 * vcompute_device_put() - drop a reference
 * @dev: the device
 *
 * Context: any.
 */
void vcompute_device_put(struct vcompute_device *dev)
{
	kref_put(&dev->ref, device_release);
}

/**
 * vcompute_device_lost() - whether waiting for the device is in vain
 * @dev: the device
 *
 * Return: true if it was removed, suspended or given up.
 */
bool vcompute_device_lost(struct vcompute_device *dev)
{
	return !READ_ONCE(dev->control.online) || READ_ONCE(dev->control.broken);
}

/**
 * vcompute_device_broken() - give the device up, because it does not keep to the contract
 * @dev: the device
 * @why: for the log
 *
 * Nothing is freed: the device may still write to what it has. Unbinding the
 * driver, or a suspend, resets the device.
 *
 * Context: any.
 */
void vcompute_device_broken(struct vcompute_device *dev, const char *why)
{
	if (xchg(&dev->control.broken, true))
		return;
	dev_err(&dev->vdev->dev, "giving the device up: %s\n", why);
	WRITE_ONCE(dev->state, VIRTIO_COMPUTE_STATE_FAILED);
	queue_work(vcompute_wq, &dev->broken_work);
}

static void broken_work(struct work_struct *work)
{
	struct vcompute_device *dev = container_of(work, struct vcompute_device, broken_work);

	virtio_break_device(dev->vdev);
	vcompute_sessions_died(dev);
	wake_up_all(&dev->replies);
}

static long watch(struct vcompute_device *dev, bool (*done)(void *object), void *object, int state, long left)
{
	/* wait_event_..._timeout(), but a suspend does not wait for it. */
	might_sleep();
	if (!(done(object) || vcompute_device_lost(dev)))
		left = ___wait_event(dev->replies,
				     ___wait_cond_timeout(done(object) || vcompute_device_lost(dev)),
				     (state | TASK_FREEZABLE), 0, left,
				     __ret = schedule_timeout(__ret));
	if (done(object))
		return 0;
	if (left < 0)
		return -EINTR;
	return left ? -ENODEV : -ETIMEDOUT;
}

/**
 * vcompute_device_wait() - wait for the outcome of a request
 * @dev: the device
 * @done: whether it is there
 * @object: argument of @done
 *
 * The waiter only watches. What was requested goes on without it.
 *
 * Context: process; killable, bounded by the module parameter.
 * Return: 0, -ENODEV, -ETIMEDOUT or -EINTR.
 */
long vcompute_device_wait(struct vcompute_device *dev, bool (*done)(void *object), void *object)
{
	return watch(dev, done, object, TASK_KILLABLE, vcompute_request_timeout());
}

/**
 * vcompute_device_watch() - the same, until any signal comes
 * @dev: the device
 * @done: whether it is there
 * @object: argument of @done
 * @left: longest wait, in jiffies
 *
 * Context: process.
 * Return: 0, -ENODEV, -ETIMEDOUT or -EINTR.
 */
long vcompute_device_watch(struct vcompute_device *dev, bool (*done)(void *object), void *object, long left)
{
	return watch(dev, done, object, TASK_INTERRUPTIBLE, left);
}

/* Reads the configuration space, which no other function does: each access is a message to the host. */
static int read_config(struct vcompute_device *dev, struct virtio_device *vdev)
{
	u32 magic, version, max_sessions, max_regions, max_extents;

	virtio_cread_le(vdev, struct virtio_compute_config, magic, &magic);
	if (magic != VIRTIO_COMPUTE_MAGIC)
		return -ENODEV; /* another device with this ID */
	virtio_cread_le(vdev, struct virtio_compute_config, version, &version);
	if (version != VIRTIO_COMPUTE_PROTOCOL_VERSION) {
		dev_err(&vdev->dev, "the device speaks protocol version %u, this driver speaks %u; update the older\n",
			version, VIRTIO_COMPUTE_PROTOCOL_VERSION);
		return -ENODEV;
	}
	virtio_cread_le(vdev, struct virtio_compute_config, max_sessions, &max_sessions);
	virtio_cread_le(vdev, struct virtio_compute_config, max_regions, &max_regions);
	virtio_cread_le(vdev, struct virtio_compute_config, max_extents, &max_extents);
	dev->max_sessions = min_t(u32, max_sessions, VIRTIO_COMPUTE_MAX_SESSIONS);
	dev->max_regions = min_t(u32, max_regions, VIRTIO_COMPUTE_MAX_REGIONS);
	dev->max_extents = min_t(u32, max_extents, VIRTIO_COMPUTE_MAX_EXTENTS);
	return 0;
}

/* Virtqueues and HELLO: what a new device and one that comes back from suspend have in common. */
static int start(struct vcompute_device *dev, struct virtio_device *vdev)
{
	struct virtqueue_info infos[VIRTIO_COMPUTE_QUEUE_COUNT] = {
		[VIRTIO_COMPUTE_CONTROLQ] = { "control", vcompute_control_interrupt },
		[VIRTIO_COMPUTE_EVENTQ] = { "event", vcompute_event_interrupt },
	};
	struct virtqueue *vqs[VIRTIO_COMPUTE_QUEUE_COUNT];
	int error;

	error = vcompute_find_vqs(vdev, ARRAY_SIZE(vqs), vqs, infos);
	if (error)
		return error;
	dev->control.vq = vqs[VIRTIO_COMPUTE_CONTROLQ];
	dev->event.vq = vqs[VIRTIO_COMPUTE_EVENTQ];
	if (virtqueue_get_vring_size(dev->control.vq) < VIRTIO_COMPUTE_MAX_CONTROL_CHAIN) {
		dev_err(&vdev->dev, "the controlq has %u descriptors, %u are needed; set vq_size=%u\n",
			virtqueue_get_vring_size(dev->control.vq), VIRTIO_COMPUTE_MAX_CONTROL_CHAIN,
			VIRTIO_COMPUTE_QUEUE_SIZE);
		error = -EINVAL;
		goto del_vqs;
	}
	error = vcompute_event_start(dev);
	if (error)
		goto detach;

	do {
		dev->boot_nonce = get_random_u64();
	} while (!dev->boot_nonce);
	WRITE_ONCE(dev->state, VIRTIO_COMPUTE_STATE_STARTING);
	virtio_device_ready(vdev);
	spin_lock_irq(&dev->control.lock);
	dev->control.broken = false;
	dev->control.online = true;
	spin_unlock_irq(&dev->control.lock);
	virtqueue_kick(dev->event.vq);
	vcompute_info_refresh(dev);
	return 0;

detach:
	while (virtqueue_detach_unused_buf(dev->event.vq))
		;
del_vqs:
	vdev->config->del_vqs(vdev);
	dev->control.vq = NULL;
	dev->event.vq = NULL;
	return error;
}

/*
 * The device has written its last byte when virtio_reset_device() returns, and
 * no callback of a virtqueue runs any more. Only then is anything released.
 */
static void stop(struct vcompute_device *dev)
{
	struct virtio_device *vdev = dev->vdev;

	if (!dev->control.vq)
		return; /* it did not come back from suspend */
	spin_lock_irq(&dev->control.lock);
	dev->control.online = false;
	spin_unlock_irq(&dev->control.lock);
	virtio_reset_device(vdev);
	synchronize_rcu(); /* whoever still notifies a virtqueue */
	cancel_work_sync(&dev->broken_work);

	while (virtqueue_detach_unused_buf(dev->event.vq))
		;
	vcompute_control_reset(dev);
	flush_work(&dev->reply_work);
	vcompute_info_stop(dev);
	vcompute_sessions_reset(dev);
	wake_up_all(&dev->replies);
	vdev->config->del_vqs(vdev);
	dev->control.vq = NULL;
	dev->event.vq = NULL;
}

static struct vcompute_device *device_new(void)
{
	struct vcompute_device *dev = kzalloc(sizeof(*dev), GFP_KERNEL);

	if (!dev)
		return NULL;
	kref_init(&dev->ref);
	atomic_inc(&vcompute_counts.devices);
	vcompute_control_init(dev);
	init_waitqueue_head(&dev->replies);
	INIT_WORK(&dev->broken_work, broken_work);
	spin_lock_init(&dev->sessions_lock);
	INIT_LIST_HEAD(&dev->sessions);
	hash_init(dev->numbers);
	vcompute_info_init(dev);
	vcompute_status_init(dev);
	if (vcompute_event_init(dev)) {
		vcompute_device_put(dev);
		return NULL;
	}
	return dev;
}

static int probe(struct virtio_device *vdev)
{
	struct vcompute_device *dev;
	int error;

	if (!vdev->config->get)
		return -ENODEV;
	dev = device_new();
	if (!dev)
		return -ENOMEM;
	error = read_config(dev, vdev);
	if (error)
		goto put;

	dev->vdev = vdev;
	vdev->priv = dev;
	error = vcompute_node_new(dev);
	if (error)
		goto put;
	error = start(dev, vdev);
	if (error)
		goto put_node;
	error = vcompute_node_add(dev);
	if (error)
		goto stop;
	vcompute_debug_add(dev);
	return 0;

stop:
	stop(dev);
put_node:
	vcompute_node_put(dev);
put:
	vcompute_device_put(dev);
	return error;
}

static void remove(struct virtio_device *vdev)
{
	struct vcompute_device *dev = vdev->priv;

	vcompute_debug_remove(dev);
	stop(dev);
	vcompute_node_remove(dev);
	dev->vdev = NULL;
	vdev->priv = NULL;
	vcompute_node_put(dev);
	vcompute_device_put(dev);
}

static void config_changed(struct virtio_device *vdev)
{
	vcompute_info_refresh(vdev->priv);
}

#ifdef CONFIG_PM_SLEEP
static int freeze(struct virtio_device *vdev)
{
	stop(vdev->priv);
	return 0;
}

static int restore(struct virtio_device *vdev)
{
	return start(vdev->priv, vdev);
}
#endif

static int validate(struct virtio_device *vdev)
{
	if (!virtio_has_feature(vdev, VIRTIO_F_VERSION_1)) {
		dev_err(&vdev->dev, "the device is not a virtio 1 device\n");
		return -ENODEV;
	}
	return 0;
}

static const struct virtio_device_id ids[] = {
	{ VIRTIO_ID_COMPUTE, VIRTIO_DEV_ANY_ID },
	{ 0 },
};

static struct virtio_driver driver = {
	.driver.name = KBUILD_MODNAME,
	.id_table = ids,
	.validate = validate,
	.probe = probe,
	.remove = remove,
	.config_changed = config_changed,
#ifdef CONFIG_PM_SLEEP
	.freeze = freeze,
	.restore = restore,
#endif
};

static int __init vcompute_init(void)
{
	int error;

	vcompute_wq = alloc_workqueue(KBUILD_MODNAME, WQ_UNBOUND, 0);
	if (!vcompute_wq)
		return -ENOMEM;
	error = vcompute_nodes_init();
	if (error)
		goto destroy_workqueue;
	vcompute_debug_init();
	error = register_virtio_driver(&driver);
	if (error)
		goto exit_nodes;
	return 0;

exit_nodes:
	vcompute_debug_exit();
	vcompute_nodes_exit();
destroy_workqueue:
	destroy_workqueue(vcompute_wq);
	return error;
}

static void __exit vcompute_exit(void)
{
	unregister_virtio_driver(&driver);
	destroy_workqueue(vcompute_wq);
	vcompute_debug_exit();
	vcompute_nodes_exit();
}

module_init(vcompute_init);
module_exit(vcompute_exit);

MODULE_DEVICE_TABLE(virtio, ids);
MODULE_DESCRIPTION("Virtio compute driver: CUDA sessions of guest processes");
MODULE_LICENSE("GPL");
