// SPDX-License-Identifier: GPL-2.0-only
/*
 * STATUS: what the devices are doing, for a process without a session.
 *
 * One request is under way at most, however many processes ask: whoever comes
 * meanwhile waits for its answer. So processes can neither flood the device nor,
 * where it never answers, pile up memory that it may still write to.
 */
#include <linux/jiffies.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "driver.h"

/* The device answers from its memory, so one that takes longer does not answer. */
#define LONGEST_WAIT	msecs_to_jiffies(2000)

/* The request is no longer under way, whatever has come of it. */
static void finish(struct vcompute_request *request)
{
	struct vcompute_device *dev = request->dev;

	spin_lock(&dev->status_lock);
	dev->status_request = NULL;
	spin_unlock(&dev->status_lock);
	/* Whoever sees this sees the answer; waiters are woken by the caller. */
	smp_store_release(&request->finished, true);
}

static bool is_finished(void *object)
{
	const struct vcompute_request *request = object;

	return smp_load_acquire(&request->finished); /* pairs with finish() */
}

static struct vcompute_request *request_new(struct vcompute_device *dev)
{
	struct vcompute_request *request = vcompute_request_new(dev, VIRTIO_COMPUTE_STATUS, 0, 0, finish);
	unsigned int i;

	if (!request)
		return NULL;
	for (i = 0; i < ARRAY_SIZE(request->own); i++) {
		/* Zeroed: the device may say that it has written what it has not. */
		request->own[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!request->own[i]) {
			vcompute_request_put(request);
			return NULL;
		}
	}
	request->data = request->own;
	request->data_bytes = ARRAY_SIZE(request->own) * PAGE_SIZE;
	return request;
}

/* The request that is under way, or @mine instead of none. */
static struct vcompute_request *join(struct vcompute_device *dev, struct vcompute_request *mine)
{
	struct vcompute_request *request;

	spin_lock(&dev->status_lock);
	if (!dev->status_request)
		dev->status_request = mine;
	request = dev->status_request;
	/* It cannot go: the queue, or its maker, holds it until finish() has been here. */
	if (request)
		kref_get(&request->ref);
	spin_unlock(&dev->status_lock);
	return request;
}

/* A request that is under way, with a reference. */
static struct vcompute_request *ask(struct vcompute_device *dev)
{
	struct vcompute_request *request = join(dev, NULL), *mine;

	if (request)
		return request;
	mine = request_new(dev);
	if (!mine)
		return NULL;
	request = join(dev, mine);
	if (request == mine)
		vcompute_request_submit(mine);
	vcompute_request_put(mine);
	return request;
}

static long copy_out(const struct vcompute_request *request, struct vcompute_status *status)
{
	char __user *to = u64_to_user_ptr(status->address);
	u32 left = min(status->length, request->answered);
	unsigned int i;

	for (i = 0; left; i++) {
		u32 part = min_t(u32, left, PAGE_SIZE);

		if (copy_to_user(to + i * PAGE_SIZE, page_address(request->own[i]), part))
			return -EFAULT;
		left -= part;
	}
	status->length = request->answered;
	return 0;
}

/**
 * vcompute_status_init() - prepare a new device
 * @dev: the device
 */
void vcompute_status_init(struct vcompute_device *dev)
{
	spin_lock_init(&dev->status_lock);
}

/**
 * vcompute_status_get() - answer the STATUS ioctl
 * @dev: the device
 * @status: where the answer goes
 *
 * Context: process; ends with any signal, and after two seconds.
 * Return: 0 or a negative error.
 */
long vcompute_status_get(struct vcompute_device *dev, struct vcompute_status *status)
{
	unsigned long longest = min_t(unsigned long, vcompute_request_timeout(), LONGEST_WAIT);
	struct vcompute_request *request;
	struct vcompute_info info;
	long error;

	if (vcompute_device_lost(dev))
		return -ENODEV;
	vcompute_info_get(dev, &info);
	if (info.state == VIRTIO_COMPUTE_STATE_FAILED)
		return -ENODEV;
	/* Nothing may be asked before HELLO is answered. */
	if (!info.info_bytes)
		return -EAGAIN;
	request = ask(dev);
	if (!request)
		return -ENOMEM;
	error = vcompute_device_watch(dev, is_finished, request, longest);
	if (!error)
		error = vcompute_request_errno(request);
	if (!error)
		error = copy_out(request, status);
	vcompute_request_put(request);
	return error;
}
