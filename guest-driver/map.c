// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP and UNMAP: how a region reaches the device and comes back.
 *
 *                   MAP, one message after the other
 *   REGION_NEW ----------> REGION_MAPPING ----------> REGION_MAPPED
 *                             |      |                    |
 *               first refused |      | later one refused, | UNMAP, or
 *                             |      | or abandoned       | abandoned
 *                             v      v                    v
 *                     REGION_GONE <------------- REGION_UNMAPPING ---> REGION_STUCK
 *
 * The answers drive it. A process that waits, waits for a state; when it stops
 * waiting it marks the region abandoned, and the next answer takes it back. In
 * every state but the first and the last, the session's table holds the region.
 */
#include <linux/slab.h>

#include "driver.h"

/**
 * vcompute_region_find() - look a region up
 * @session: its session
 * @number: its number
 *
 * Context: process.
 * Return: the region with a reference, or NULL.
 */
struct vcompute_region *vcompute_region_find(struct vcompute_session *session, u32 number)
{
	struct vcompute_region *region;

	if (!number) {
		vcompute_region_get(session->memory);
		return session->memory;
	}
	xa_lock(&session->regions);
	region = xa_load(&session->regions, number);
	if (region)
		vcompute_region_get(region);
	xa_unlock(&session->regions);
	return region;
}

/**
 * vcompute_region_gone() - the device knows nothing of the region
 * @session: its session
 * @region: the region
 * @result: what whoever waits for it is told
 *
 * Takes it from the table. Does nothing the second time.
 *
 * Context: process.
 */
void vcompute_region_gone(struct vcompute_session *session, struct vcompute_region *region, int result)
{
	bool first;

	spin_lock(&session->lock);
	first = region->state != REGION_GONE;
	if (first) {
		region->state = REGION_GONE;
		if (!region->result)
			region->result = result;
		session->extents -= region->extent_count;
	}
	spin_unlock(&session->lock);
	if (!first)
		return;
	xa_erase(&session->regions, region->number);
	vcompute_region_put(region);
}

/*
 * Whether the pages are free after this answer to UNMAP. A device that has
 * refused a later message of MAP may have forgotten the earlier ones, and then
 * calls UNMAP invalid; of a region that was complete that proves nothing.
 */
static bool lets_go(const struct vcompute_request *request)
{
	return request->reset || request->status == VIRTIO_COMPUTE_STATUS_OK ||
	       request->status == VIRTIO_COMPUTE_STATUS_NO_SESSION ||
	       (request->status == VIRTIO_COMPUTE_STATUS_INVALID && !request->region->complete);
}

/* The answer to UNMAP. */
static void unmapped(struct vcompute_request *request)
{
	struct vcompute_session *session = request->session;
	struct vcompute_region *region = request->region;

	if (!request->reset && request->status == VIRTIO_COMPUTE_STATUS_NO_SESSION)
		vcompute_session_died(session);
	if (lets_go(request)) {
		vcompute_region_gone(session, region, request->reset ? -ENODEV : 0);
		return;
	}
	spin_lock(&session->lock);
	if (region->state == REGION_UNMAPPING) {
		region->state = REGION_STUCK;
		if (!region->result)
			region->result = vcompute_request_errno(request);
	}
	spin_unlock(&session->lock);
	dev_warn_ratelimited(&request->dev->vdev->dev,
			     "session %u: the device could not unmap region %u (status %u); its memory is kept\n",
			     session->number, region->number, request->status);
}

static struct vcompute_request *next_message(struct vcompute_region *region)
{
	struct vcompute_request *message =
		list_first_entry_or_null(&region->messages, struct vcompute_request, node);

	if (message)
		list_del_init(&message->node);
	return message;
}

/* The answer to one message of MAP. */
static void mapped(struct vcompute_request *request)
{
	struct vcompute_session *session = request->session;
	struct vcompute_region *region = request->region;
	int error = vcompute_request_errno(request);
	struct vcompute_request *next = NULL;
	bool gone, unmap = false;

	if (!request->reset && request->status == VIRTIO_COMPUTE_STATUS_NO_SESSION)
		vcompute_session_died(session);
	spin_lock(&session->lock);
	gone = request->reset || (error && !region->partly);
	if (region->state != REGION_MAPPING) {
		gone = false; /* the session has ended meanwhile */
	} else if (!gone) {
		region->partly = true;
		if (!error && !region->abandoned)
			next = next_message(region);
		if (error || region->abandoned) {
			region->result = error;
			region->state = REGION_UNMAPPING;
			unmap = true;
		} else if (!next) {
			region->complete = true;
			region->state = REGION_MAPPED;
		}
	}
	spin_unlock(&session->lock);

	if (gone) {
		vcompute_region_gone(session, region, error);
	} else if (unmap) {
		vcompute_request_submit(region->unmap);
	} else if (next) {
		vcompute_request_submit(next);
		vcompute_request_put(next);
	}
}

static int prepare_unmap(struct vcompute_session *session, struct vcompute_region *region)
{
	struct vcompute_request *request;

	request = vcompute_request_new(session->dev, VIRTIO_COMPUTE_UNMAP, sizeof(request->message.unmap), 0,
				       unmapped);
	if (!request)
		return -ENOMEM;
	request->session = session;
	request->region = region;
	request->message.unmap.region = cpu_to_le32(region->number);
	region->unmap = request;
	return 0;
}

static int prepare_map(struct vcompute_session *session, struct vcompute_region *region)
{
	u32 first, count;

	for (first = 0; first < region->extent_count; first += count) {
		struct vcompute_request *request;
		struct virtio_compute_map *map;

		count = min_t(u32, region->extent_count - first, VIRTIO_COMPUTE_MAX_EXTENTS_PER_MESSAGE);
		request = vcompute_request_new(session->dev, VIRTIO_COMPUTE_MAP, sizeof(*map), 0, mapped);
		if (!request)
			return -ENOMEM;
		list_add_tail(&request->node, &region->messages);
		if (vcompute_request_add_extents(request, region->extents + first, count))
			return -ENOMEM;
		request->session = session;
		request->region = region;
		map = &request->message.map;
		map->region = cpu_to_le32(region->number);
		map->flags = cpu_to_le32(region->flags);
		map->address = cpu_to_le64(region->address);
		map->length = cpu_to_le64((u64)region->page_count << PAGE_SHIFT);
		map->extent_count = cpu_to_le32(count);
	}
	return 0;
}

/* Counts the region's extents and starts mapping. */
static int begin(struct vcompute_session *session, struct vcompute_region *region)
{
	int error = 0;

	spin_lock(&session->lock);
	if (session->state != SESSION_LIVE) {
		error = -ENODEV;
	} else if (region->extent_count > session->dev->max_extents - session->extents) {
		error = -E2BIG;
	} else {
		session->extents += region->extent_count;
		region->state = REGION_MAPPING;
	}
	spin_unlock(&session->lock);
	return error;
}

static bool is_settled(void *object)
{
	const struct vcompute_region *region = object;
	enum vcompute_region_state state = READ_ONCE(region->state);

	return state != REGION_MAPPING && state != REGION_UNMAPPING;
}

static int outcome(struct vcompute_session *session, struct vcompute_region *region)
{
	int error;

	spin_lock(&session->lock);
	error = region->result;
	spin_unlock(&session->lock);
	return error;
}

/**
 * vcompute_region_map() - make a region known to the device
 * @session: the session
 * @region: the region, new, with its extents
 *
 * Context: process; waits for the device.
 * Return: 0 or a negative error; then the region is taken back by itself.
 */
int vcompute_region_map(struct vcompute_session *session, struct vcompute_region *region)
{
	struct vcompute_request *first;
	int error;

	/* Reserves a number; the region is not found by it yet. */
	error = xa_alloc_cyclic(&session->regions, &region->number, NULL,
				XA_LIMIT(1, session->dev->max_regions), &session->next_region,
				GFP_KERNEL_ACCOUNT);
	if (error < 0)
		return error == -EBUSY ? -ENOSPC : error;
	error = prepare_unmap(session, region);
	if (!error)
		error = prepare_map(session, region);
	if (!error)
		error = begin(session, region);
	if (error) {
		xa_erase(&session->regions, region->number);
		return error;
	}

	first = next_message(region);
	vcompute_region_get(region); /* the table's */
	xa_store(&session->regions, region->number, region, GFP_KERNEL_ACCOUNT);
	vcompute_request_submit(first);
	vcompute_request_put(first);

	error = vcompute_device_wait(session->dev, is_settled, region);
	if (!error)
		return outcome(session, region);
	vcompute_region_abandon(session, region);
	return error;
}

/**
 * vcompute_region_abandon() - take back a region that nobody will use
 * @session: its session
 * @region: the region, mapped or being mapped
 *
 * Context: process; does not wait.
 */
void vcompute_region_abandon(struct vcompute_session *session, struct vcompute_region *region)
{
	bool unmap = false;

	spin_lock(&session->lock);
	if (region->state == REGION_MAPPING) {
		region->abandoned = true;
	} else if (region->state == REGION_MAPPED) {
		region->state = REGION_UNMAPPING;
		unmap = true;
	}
	spin_unlock(&session->lock);
	if (unmap)
		vcompute_request_submit(region->unmap);
}

/**
 * vcompute_region_unmap() - take a region away from the device
 * @session: the session
 * @number: the region's number
 *
 * Context: process; waits for the device.
 * Return: 0 or a negative error.
 */
int vcompute_region_unmap(struct vcompute_session *session, u32 number)
{
	struct vcompute_region *region;
	int error = 0;

	if (!number)
		return -EINVAL;
	region = vcompute_region_find(session, number);
	if (!region)
		return -ENOENT;
	spin_lock(&session->lock);
	if (region->state == REGION_MAPPED)
		region->state = REGION_UNMAPPING;
	else
		error = region->state == REGION_GONE ? -ENOENT : -EBUSY;
	spin_unlock(&session->lock);

	if (!error) {
		vcompute_request_submit(region->unmap);
		error = vcompute_device_wait(session->dev, is_settled, region);
	}
	if (!error)
		error = outcome(session, region);
	vcompute_region_put(region);
	return error;
}
