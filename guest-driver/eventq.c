// SPDX-License-Identifier: GPL-2.0-only
/*
 * The eventq: the device rings, and whoever sleeps looks again.
 *
 * An event carries no state, so a buffer is given back before anybody has
 * acted on it, and an event about an unknown session is simply late.
 */
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "driver.h"

/**
 * vcompute_event_init() - allocate the buffers of the eventq
 * @dev: the device
 *
 * Return: 0, or -ENOMEM.
 */
int vcompute_event_init(struct vcompute_device *dev)
{
	spin_lock_init(&dev->event.lock);
	dev->event.buffers = kcalloc(VIRTIO_COMPUTE_QUEUE_SIZE, sizeof(*dev->event.buffers), GFP_KERNEL);
	return dev->event.buffers ? 0 : -ENOMEM;
}

static int give_buffer(struct vcompute_device *dev, struct virtio_compute_event *buffer)
{
	struct scatterlist sg;

	sg_init_one(&sg, buffer, sizeof(*buffer));
	return virtqueue_add_inbuf(dev->event.vq, &sg, 1, buffer, GFP_ATOMIC);
}

/**
 * vcompute_event_start() - fill the eventq with buffers
 * @dev: the device, whose virtqueues are new
 *
 * Return: 0 or a negative error.
 */
int vcompute_event_start(struct vcompute_device *dev)
{
	unsigned int i, count = min_t(unsigned int, virtqueue_get_vring_size(dev->event.vq),
				      VIRTIO_COMPUTE_QUEUE_SIZE);

	for (i = 0; i < count; i++) {
		int error = give_buffer(dev, &dev->event.buffers[i]);

		if (error)
			return error;
	}
	return 0;
}

static void handle(struct vcompute_device *dev, const struct virtio_compute_event *event)
{
	u32 number = le32_to_cpu(event->session);

	switch (le32_to_cpu(event->kind)) {
	case VIRTIO_COMPUTE_EVENT_SESSION:
		vcompute_session_event(dev, number, false);
		break;
	case VIRTIO_COMPUTE_EVENT_SESSION_DIED:
		vcompute_session_event(dev, number, true);
		break;
	case VIRTIO_COMPUTE_EVENT_CONFIG:
		vcompute_info_refresh(dev);
		break;
	default:
		/* Of a later version of the device; a doorbell may be missed. */
		break;
	}
}

/**
 * vcompute_event_interrupt() - the device has reported events
 * @vq: the eventq
 *
 * Context: interrupt.
 */
void vcompute_event_interrupt(struct virtqueue *vq)
{
	struct vcompute_device *dev = vq->vdev->priv;
	struct virtio_compute_event *buffer, event;
	unsigned long flags;
	u32 written;

	spin_lock_irqsave(&dev->event.lock, flags);
	do {
		virtqueue_disable_cb(vq);
		while ((buffer = virtqueue_get_buf(vq, &written))) {
			if (written < sizeof(event)) {
				vcompute_device_broken(dev, "an event is too short");
				goto out;
			}
			event = *buffer;
			if (give_buffer(dev, buffer)) {
				vcompute_device_broken(dev, "the eventq takes no buffer back");
				goto out;
			}
			atomic64_inc(&dev->events);
			if (event.kind == cpu_to_le32(VIRTIO_COMPUTE_EVENT_SESSION_DIED)) {
				/*
				 * The answer that made the session came before, but its own
				 * interrupt may not have; control.lock is outside of ours.
				 */
				spin_unlock_irqrestore(&dev->event.lock, flags);
				vcompute_control_interrupt(dev->control.vq);
				spin_lock_irqsave(&dev->event.lock, flags);
			}
			handle(dev, &event);
		}
	} while (!virtqueue_enable_cb(vq));
	if (virtqueue_is_broken(vq))
		vcompute_device_broken(dev, "an event in no buffer");
	virtqueue_kick(vq);
out:
	spin_unlock_irqrestore(&dev->event.lock, flags);
}
