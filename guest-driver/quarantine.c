// SPDX-License-Identifier: GPL-2.0-only
/*
 * How sessions end.
 *
 * A session that nobody wants any more stays on its device's list, with every
 * page that the device was given, until one of these: the device has answered
 * SESSION_DESTROY, which it does when the session's worker is gone from the
 * GPU; or the device has been reset. Nobody waits for that.
 */
#include "driver.h"

/**
 * vcompute_session_end() - nobody wants the session any more
 * @session: the session
 *
 * Does nothing the second time.
 *
 * Context: process; does not wait.
 */
void vcompute_session_end(struct vcompute_session *session)
{
	bool destroy = false;

	spin_lock(&session->lock);
	session->closing = true;
	/* While it is being created, the answer to that does the rest. */
	if (session->state == SESSION_LIVE) {
		session->state = SESSION_CLOSING;
		destroy = true;
	}
	spin_unlock(&session->lock);
	vcompute_session_died(session);
	if (destroy)
		vcompute_request_submit(session->destroy);
}

/**
 * vcompute_session_ended() - the device knows nothing of the session
 * @session: the session
 *
 * Gives back what the device had of it. Does nothing the second time.
 *
 * Context: process.
 */
void vcompute_session_ended(struct vcompute_session *session)
{
	struct vcompute_device *dev = session->dev;
	struct vcompute_region *region;
	unsigned long number;
	bool first;

	spin_lock(&session->lock);
	first = session->state != SESSION_ENDED;
	session->state = SESSION_ENDED;
	if (first && !session->result)
		session->result = -ENODEV;
	spin_unlock(&session->lock);
	if (!first)
		return;

	spin_lock_irq(&dev->control.lock);
	session->ended = true;
	spin_lock(&dev->sessions_lock);
	list_del_init(&session->node);
	if (!hlist_unhashed(&session->number_node))
		hash_del_rcu(&session->number_node);
	spin_unlock(&dev->sessions_lock);
	spin_unlock_irq(&dev->control.lock);
	vcompute_session_died(session);

	/* One that is being made at this moment is answered by vcompute_request_submit(). */
	xa_for_each(&session->regions, number, region)
		vcompute_region_gone(session, region, -ENODEV);
	if (session->charged)
		vcompute_uncharge_session(dev, session->user);
	session->charged = false;
	vcompute_session_put(session);
}

/**
 * vcompute_session_destroyed() - the answer to SESSION_DESTROY
 * @request: the request
 *
 * Context: process.
 */
void vcompute_session_destroyed(struct vcompute_request *request)
{
	struct vcompute_session *session = request->session;

	if (request->reset || request->status == VIRTIO_COMPUTE_STATUS_OK ||
	    request->status == VIRTIO_COMPUTE_STATUS_NO_SESSION) {
		vcompute_session_ended(session);
		return;
	}
	spin_lock(&session->lock);
	session->state = SESSION_QUARANTINED;
	spin_unlock(&session->lock);
	dev_warn_ratelimited(&request->dev->vdev->dev,
			     "session %u: the device could not end it (status %u); its memory is kept\n",
			     session->number, request->status);
}

/**
 * vcompute_sessions_reset() - end every session after a device reset
 * @dev: the device, reset
 *
 * Context: process.
 */
void vcompute_sessions_reset(struct vcompute_device *dev)
{
	struct vcompute_session *session;

	for (;;) {
		spin_lock_irq(&dev->sessions_lock);
		session = list_first_entry_or_null(&dev->sessions, struct vcompute_session, node);
		if (session)
			vcompute_session_get(session);
		spin_unlock_irq(&dev->sessions_lock);
		if (!session)
			break;
		vcompute_session_ended(session);
		vcompute_session_put(session);
	}
}
