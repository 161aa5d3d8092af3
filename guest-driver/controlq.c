// SPDX-License-Identifier: GPL-2.0-only
/*
 * The controlq: requests to the device, and their answers.
 *
 * A request travels backlog -> in_flight -> done. The backlog is sent as far
 * as the virtqueue has room, in order; so submission neither waits nor fails.
 * Answers are taken in the interrupt and finished by reply_work. Only a KICK is
 * finished in the interrupt, and a new session is made known there, so that no
 * event about it can be missed.
 */
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "driver.h"

/**
 * vcompute_request_new() - make a request
 * @dev: the device
 * @kind: enum virtio_compute_type
 * @payload_bytes: bytes of the request's structure
 * @reply_bytes: bytes of the answer's structure
 * @finish: called in process context after the answer, or NULL for a KICK
 *
 * Context: may sleep.
 * Return: the request with one reference, or NULL without memory.
 */
struct vcompute_request *vcompute_request_new(struct vcompute_device *dev, u32 kind, u32 payload_bytes,
					      u32 reply_bytes,
					      void (*finish)(struct vcompute_request *request))
{
	struct vcompute_request *request = kzalloc(sizeof(*request), GFP_KERNEL);

	if (!request)
		return NULL;
	kref_init(&request->ref);
	INIT_LIST_HEAD(&request->node);
	request->dev = dev;
	request->finish = finish;
	request->payload_bytes = payload_bytes;
	request->reply_bytes = reply_bytes;
	request->message.header.kind = cpu_to_le32(kind);
	request->message.header.length = cpu_to_le32(payload_bytes);
	atomic_inc(&vcompute_counts.requests);
	return request;
}

/**
 * vcompute_request_add_extents() - append extents to a new request
 * @request: the request, not submitted yet
 * @extents: the extents
 * @count: how many, at most VIRTIO_COMPUTE_MAX_EXTENTS_PER_MESSAGE
 *
 * Context: may sleep.
 * Return: 0, or -ENOMEM.
 */
int vcompute_request_add_extents(struct vcompute_request *request,
				 const struct virtio_compute_extent *extents, u32 count)
{
	u32 i, part;

	for (i = 0; i < count; i += part) {
		void *page = (void *)__get_free_page(GFP_KERNEL);

		if (!page)
			return -ENOMEM;
		part = min_t(u32, count - i, EXTENTS_PER_PAGE);
		memcpy(page, extents + i, part * sizeof(*extents));
		request->extents[i / EXTENTS_PER_PAGE] = page;
	}
	request->extent_count = count;
	request->message.header.length =
		cpu_to_le32(request->payload_bytes + count * (u32)sizeof(*extents));
	return 0;
}

static void request_release(struct kref *ref)
{
	struct vcompute_request *request = container_of(ref, struct vcompute_request, ref);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(request->extents); i++)
		free_page((unsigned long)request->extents[i]);
	for (i = 0; i < ARRAY_SIZE(request->own) && request->own[i]; i++)
		put_page(request->own[i]);
	kfree(request);
	atomic_dec(&vcompute_counts.requests);
}

/**
 * vcompute_request_put() - drop a reference
 * @request: the request, or NULL
 *
 * Context: any.
 */
void vcompute_request_put(struct vcompute_request *request)
{
	if (request)
		kref_put(&request->ref, request_release);
}

/* What a submitted request keeps alive. */
static void hold_for_queue(struct vcompute_request *request)
{
	kref_get(&request->ref);
	vcompute_device_get(request->dev);
	if (request->session)
		vcompute_session_get(request->session);
	if (request->region)
		vcompute_region_get(request->region);
}

/* The caller of a request with a region is a process. */
static void release_from_queue(struct vcompute_request *request)
{
	struct vcompute_device *dev = request->dev;
	struct vcompute_session *session = request->session;

	if (request->region)
		vcompute_region_put(request->region);
	vcompute_request_put(request);
	if (session)
		vcompute_session_put(session);
	vcompute_device_put(dev);
}

/* Adds one request to the virtqueue. Called with control.lock held. */
static int push(struct vcompute_device *dev, struct vcompute_request *request)
{
	struct scatterlist head, extents[EXTENT_PAGES_PER_MESSAGE];
	struct scatterlist reply, data[INFO_PAGES_PER_MESSAGE];
	struct scatterlist *lists[2 + ARRAY_SIZE(extents) + ARRAY_SIZE(data)];
	unsigned int readable = 0, writable = 0, i;
	u32 left;

	sg_init_one(&head, &request->message, sizeof(request->message.header) + request->payload_bytes);
	lists[readable++] = &head;
	left = request->extent_count * (u32)sizeof(struct virtio_compute_extent);
	for (i = 0; left; i++) {
		u32 part = min_t(u32, left, PAGE_SIZE);

		sg_init_one(&extents[i], request->extents[i], part);
		lists[readable++] = &extents[i];
		left -= part;
	}

	sg_init_one(&reply, &request->reply, sizeof(request->reply.header) + request->reply_bytes);
	lists[readable + writable++] = &reply;
	left = request->data_bytes;
	for (i = 0; left; i++) {
		u32 part = min_t(u32, left, PAGE_SIZE);

		sg_init_table(&data[i], 1);
		sg_set_page(&data[i], request->data[i], part, 0);
		lists[readable + writable++] = &data[i];
		left -= part;
	}

	return virtqueue_add_sgs(dev->control.vq, lists, readable, writable, request, GFP_ATOMIC);
}

/*
 * Sends what fits. Called with control.lock held; returns whether the device
 * is to be notified.
 */
static bool send_backlog(struct vcompute_device *dev)
{
	struct vcompute_request *request, *next;
	bool sent = false;

	lockdep_assert_held(&dev->control.lock);
	if (READ_ONCE(dev->control.broken))
		return false;
	list_for_each_entry_safe(request, next, &dev->control.backlog, node) {
		int error = push(dev, request);

		if (error == -ENOSPC)
			break;
		if (error) {
			vcompute_device_broken(dev, "the controlq takes no more requests");
			break;
		}
		list_move_tail(&request->node, &dev->control.in_flight);
		sent = true;
	}
	return sent && virtqueue_kick_prepare(dev->control.vq);
}

/* Has reply_work look at the done list. The work holds a reference to the device. */
static void queue_replies(struct vcompute_device *dev)
{
	vcompute_device_get(dev);
	if (!queue_work(vcompute_wq, &dev->reply_work))
		vcompute_device_put(dev);
}

/**
 * vcompute_request_submit() - hand a request to the device
 * @request: the request, with what it is about filled in
 *
 * The request's finish function is called later, exactly once, unless the
 * device is never reset. It must not be submitted again before that.
 *
 * Context: process; takes control.lock.
 */
void vcompute_request_submit(struct vcompute_request *request)
{
	struct vcompute_device *dev = request->dev;
	struct vcompute_session *session = request->session;
	bool notify = false;
	unsigned long flags;

	hold_for_queue(request);
	/* The device's removal waits for readers before it frees the virtqueue. */
	rcu_read_lock();
	spin_lock_irqsave(&dev->control.lock, flags);
	if (!dev->control.online || (session && session->ended)) {
		request->reset = true;
		list_add_tail(&request->node, &dev->control.done);
		queue_replies(dev);
	} else {
		if (session)
			request->message.header.session = cpu_to_le32(session->number);
		list_add_tail(&request->node, &dev->control.backlog);
		notify = send_backlog(dev);
	}
	spin_unlock_irqrestore(&dev->control.lock, flags);
	if (notify)
		virtqueue_notify(dev->control.vq);
	rcu_read_unlock();
}

/**
 * vcompute_control_kick() - wake the session's lanes
 * @session: the session
 *
 * Never waits. A kick that comes while the session's request is under way sends
 * that request once more after its answer, because nobody knows whether the
 * device has looked at the lanes already.
 *
 * Context: any; takes control.lock.
 * Return: 0, or -ENODEV.
 */
int vcompute_control_kick(struct vcompute_session *session)
{
	struct vcompute_device *dev = session->dev;
	struct vcompute_request *request = session->kick;
	bool notify = false;
	unsigned long flags;
	int error = 0;

	rcu_read_lock();
	spin_lock_irqsave(&dev->control.lock, flags);
	if (!dev->control.online || READ_ONCE(dev->control.broken) || session->ended ||
	    READ_ONCE(session->dead)) {
		error = -ENODEV;
	} else if (session->kick_busy) {
		session->kick_again = true;
		atomic64_inc(&dev->kicks_joined);
	} else {
		session->kick_busy = true;
		request->message.header.session = cpu_to_le32(session->number);
		hold_for_queue(request);
		list_add_tail(&request->node, &dev->control.backlog);
		atomic64_inc(&dev->kicks);
		notify = send_backlog(dev);
	}
	spin_unlock_irqrestore(&dev->control.lock, flags);
	if (notify)
		virtqueue_notify(dev->control.vq);
	rcu_read_unlock();
	return error;
}

/* Called with control.lock held. */
static void kick_answered(struct vcompute_device *dev, struct vcompute_request *request)
{
	struct vcompute_session *session = request->session;

	if (request->status == VIRTIO_COMPUTE_STATUS_NO_SESSION)
		vcompute_session_died(session);
	if (session->kick_again && !READ_ONCE(session->dead)) {
		session->kick_again = false;
		atomic64_inc(&dev->kicks);
		list_move_tail(&request->node, &dev->control.backlog);
		return;
	}
	session->kick_again = false;
	session->kick_busy = false;
	list_del_init(&request->node);
	release_from_queue(request);
}

/* Whether the device has written the answer that it says it has. */
static bool answer_is_sound(struct vcompute_request *request, u32 written)
{
	u32 header = sizeof(request->reply.header);
	u32 most = request->data ? request->data_bytes : request->reply_bytes;
	u32 length;

	if (written < header)
		return false;
	length = le32_to_cpu(request->reply.header.length);
	if (length > most || written - header < length)
		return false;
	request->status = le32_to_cpu(request->reply.header.status);
	request->answered = length;
	return request->status != VIRTIO_COMPUTE_STATUS_OK || request->data || length == request->reply_bytes;
}

/* Takes one answer. Called with control.lock held, in the interrupt. */
static void take_answer(struct vcompute_device *dev, struct vcompute_request *request, u32 written)
{
	if (!answer_is_sound(request, written)) {
		/* It stays in flight, with all that it holds, until the device is reset. */
		vcompute_device_broken(dev, "a reply is too short or too long");
		return;
	}
	if (!request->finish) {
		kick_answered(dev, request);
		return;
	}
	if (request->message.header.kind == cpu_to_le32(VIRTIO_COMPUTE_SESSION_CREATE) &&
	    request->status == VIRTIO_COMPUTE_STATUS_OK) {
		u32 number = le32_to_cpu(request->reply.session_create.session);

		if (!vcompute_session_announce(request->session, number)) {
			vcompute_device_broken(dev, "a new session has the number of another, or none");
			return;
		}
	}
	list_move_tail(&request->node, &dev->control.done);
}

/**
 * vcompute_control_interrupt() - the device has answered requests
 * @vq: the controlq
 *
 * Context: interrupt.
 */
void vcompute_control_interrupt(struct virtqueue *vq)
{
	struct vcompute_device *dev = vq->vdev->priv;
	struct vcompute_request *request;
	unsigned long flags;
	bool notify;
	u32 written;

	spin_lock_irqsave(&dev->control.lock, flags);
	if (!dev->control.online || READ_ONCE(dev->control.broken)) {
		spin_unlock_irqrestore(&dev->control.lock, flags);
		return;
	}
	do {
		virtqueue_disable_cb(vq);
		while (!READ_ONCE(dev->control.broken) && (request = virtqueue_get_buf(vq, &written)))
			take_answer(dev, request, written);
	} while (!READ_ONCE(dev->control.broken) && !virtqueue_enable_cb(vq));
	if (virtqueue_is_broken(vq))
		vcompute_device_broken(dev, "an answer to no request");
	notify = send_backlog(dev);
	if (!list_empty(&dev->control.done))
		queue_replies(dev);
	spin_unlock_irqrestore(&dev->control.lock, flags);
	if (notify)
		virtqueue_notify(vq);
}

/* Finishes what is done; finishing may submit, and so add, more. */
static void finish_done(struct vcompute_device *dev)
{
	struct vcompute_request *request;

	for (;;) {
		spin_lock_irq(&dev->control.lock);
		request = list_first_entry_or_null(&dev->control.done, struct vcompute_request, node);
		if (request)
			list_del_init(&request->node);
		spin_unlock_irq(&dev->control.lock);
		if (!request)
			break;
		request->finish(request);
		release_from_queue(request);
		wake_up_all(&dev->replies);
	}
}

static void reply_work(struct work_struct *work)
{
	struct vcompute_device *dev = container_of(work, struct vcompute_device, reply_work);

	finish_done(dev);
	vcompute_device_put(dev);
}

/**
 * vcompute_control_init() - prepare the controlq of a new device
 * @dev: the device
 */
void vcompute_control_init(struct vcompute_device *dev)
{
	spin_lock_init(&dev->control.lock);
	INIT_LIST_HEAD(&dev->control.backlog);
	INIT_LIST_HEAD(&dev->control.in_flight);
	INIT_LIST_HEAD(&dev->control.done);
	INIT_WORK(&dev->reply_work, reply_work);
}

/**
 * vcompute_control_reset() - finish every request after a device reset
 * @dev: the device, reset and no longer online
 *
 * Context: process.
 */
void vcompute_control_reset(struct vcompute_device *dev)
{
	struct vcompute_request *request, *next;
	LIST_HEAD(kicks);

	spin_lock_irq(&dev->control.lock);
	/* The same requests as on in_flight; this also frees what the virtqueue allocated for each. */
	while (virtqueue_detach_unused_buf(dev->control.vq))
		;
	list_splice_tail_init(&dev->control.in_flight, &dev->control.backlog);
	list_for_each_entry_safe(request, next, &dev->control.backlog, node) {
		request->reset = true;
		if (request->finish) {
			list_move_tail(&request->node, &dev->control.done);
		} else {
			request->session->kick_busy = false;
			request->session->kick_again = false;
			list_move_tail(&request->node, &kicks);
		}
	}
	spin_unlock_irq(&dev->control.lock);

	list_for_each_entry_safe(request, next, &kicks, node) {
		list_del_init(&request->node);
		release_from_queue(request);
	}
	finish_done(dev);
}

/**
 * vcompute_request_errno() - what a process is told about a finished request
 * @request: the request, finished
 *
 * Return: 0 or a negative error.
 */
int vcompute_request_errno(const struct vcompute_request *request)
{
	if (request->reset)
		return -ENODEV;
	switch (request->status) {
	case VIRTIO_COMPUTE_STATUS_OK:
		return 0;
	case VIRTIO_COMPUTE_STATUS_INVALID:
		return -EINVAL;
	case VIRTIO_COMPUTE_STATUS_UNSUPPORTED:
		return -EOPNOTSUPP;
	case VIRTIO_COMPUTE_STATUS_NO_SESSION:
		return -ENODEV;
	case VIRTIO_COMPUTE_STATUS_LIMIT:
		return -ENOSPC;
	case VIRTIO_COMPUTE_STATUS_NO_MEMORY:
		return -ENOMEM;
	case VIRTIO_COMPUTE_STATUS_NOT_SHARED:
		return -EXDEV;
	case VIRTIO_COMPUTE_STATUS_AGAIN:
		return -EAGAIN;
	case VIRTIO_COMPUTE_STATUS_FAILED:
		return -EREMOTEIO;
	case VIRTIO_COMPUTE_STATUS_ADDRESS_TAKEN:
		return -EADDRINUSE;
	default:
		return -EPROTO;
	}
}
