// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sessions: how one begins, and how its process sleeps. How it ends is in
 * quarantine.c.
 */
#include <linux/hrtimer.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "driver.h"

/* The cap of WAIT: a lost wake-up, or a process that passes nonsense, costs this at most. */
#define MAX_WAIT_NS	NSEC_PER_SEC

/**
 * vcompute_session_get() - take a reference
 * @session: the session
 *
 * Context: any.
 */
void vcompute_session_get(struct vcompute_session *session)
{
	kref_get(&session->ref);
}

static void free_work(struct work_struct *work)
{
	struct vcompute_session *session = container_of(work, struct vcompute_session, free_work);

	if (session->memory)
		vcompute_region_put(session->memory);
	if (session->charged)
		vcompute_uncharge_session(session->dev, session->user);
	xa_destroy(&session->regions);
	vcompute_request_put(session->kick);
	vcompute_request_put(session->destroy);
	vcompute_user_put(session->user);
	vcompute_device_put(session->dev);
	kfree_rcu(session, rcu);
	atomic_dec(&vcompute_counts.sessions);
}

/* The last reference may go in the interrupt. */
static void session_release(struct kref *ref)
{
	struct vcompute_session *session = container_of(ref, struct vcompute_session, ref);

	queue_work(vcompute_wq, &session->free_work);
}

/**
 * vcompute_session_put() - drop a reference
 * @session: the session
 *
 * Context: any.
 */
void vcompute_session_put(struct vcompute_session *session)
{
	kref_put(&session->ref, session_release);
}

static struct vcompute_session *find_number(struct vcompute_device *dev, u32 number)
{
	struct vcompute_session *session;

	hash_for_each_possible_rcu(dev->numbers, session, number_node, number) {
		if (session->number == number)
			return session;
	}
	return NULL;
}

/**
 * vcompute_session_announce() - the device has given a new session its number
 * @session: the session
 * @number: the number
 *
 * Context: interrupt, with control.lock held; takes sessions_lock.
 * Return: false if the number is nobody's or somebody else's.
 */
bool vcompute_session_announce(struct vcompute_session *session, u32 number)
{
	struct vcompute_device *dev = session->dev;
	bool sound = false;

	spin_lock(&dev->sessions_lock);
	rcu_read_lock();
	if (number && !find_number(dev, number)) {
		session->number = number;
		hash_add_rcu(dev->numbers, &session->number_node, number);
		sound = true;
	}
	rcu_read_unlock();
	spin_unlock(&dev->sessions_lock);
	return sound;
}

/**
 * vcompute_session_died() - every call of the session fails from now on
 * @session: the session
 *
 * Context: any.
 */
void vcompute_session_died(struct vcompute_session *session)
{
	WRITE_ONCE(session->dead, true);
	wake_up_all(&session->wait);
}

/**
 * vcompute_session_event() - the device rang for a session
 * @dev: the device
 * @number: the session's number, known or not
 * @died: its worker has ended
 *
 * Context: interrupt.
 */
void vcompute_session_event(struct vcompute_device *dev, u32 number, bool died)
{
	struct vcompute_session *session;

	rcu_read_lock();
	session = find_number(dev, number);
	if (session && died)
		vcompute_session_died(session);
	else if (session)
		wake_up_all(&session->wait);
	rcu_read_unlock();
}

/**
 * vcompute_sessions_died() - the device serves none of its sessions any more
 * @dev: the device
 *
 * Context: process.
 */
void vcompute_sessions_died(struct vcompute_device *dev)
{
	struct vcompute_session *session;

	spin_lock_irq(&dev->sessions_lock);
	list_for_each_entry(session, &dev->sessions, node)
		vcompute_session_died(session);
	spin_unlock_irq(&dev->sessions_lock);
}

/* The answer to SESSION_CREATE. */
static void created(struct vcompute_request *request)
{
	struct vcompute_session *session = request->session;
	int error = vcompute_request_errno(request);
	bool unwanted = false;

	spin_lock(&session->lock);
	session->result = error;
	if (!error) {
		unwanted = session->closing;
		session->state = unwanted ? SESSION_CLOSING : SESSION_LIVE;
	}
	spin_unlock(&session->lock);
	if (error)
		vcompute_session_ended(session);
	else if (unwanted)
		vcompute_request_submit(session->destroy);
}

static struct vcompute_session *session_new(struct vcompute_device *dev)
{
	struct vcompute_session *session = kzalloc(sizeof(*session), GFP_KERNEL_ACCOUNT);

	if (!session)
		return ERR_PTR(-ENOMEM);
	session->user = vcompute_user_find(current_uid());
	if (!session->user) {
		kfree(session);
		return ERR_PTR(-ENOMEM);
	}
	kref_init(&session->ref);
	INIT_WORK(&session->free_work, free_work);
	vcompute_device_get(dev);
	session->dev = dev;
	session->process = current->tgid;
	INIT_LIST_HEAD(&session->node);
	INIT_HLIST_NODE(&session->number_node);
	spin_lock_init(&session->lock);
	xa_init_flags(&session->regions, XA_FLAGS_ALLOC1);
	init_waitqueue_head(&session->wait);
	atomic_inc(&vcompute_counts.sessions);

	session->kick = vcompute_request_new(dev, VIRTIO_COMPUTE_KICK, 0, 0, NULL);
	session->destroy = vcompute_request_new(dev, VIRTIO_COMPUTE_SESSION_DESTROY, 0, 0,
						vcompute_session_destroyed);
	if (!session->kick || !session->destroy) {
		vcompute_session_put(session);
		return ERR_PTR(-ENOMEM);
	}
	session->kick->session = session;
	session->destroy->session = session;
	return session;
}

static int charge(struct vcompute_session *session)
{
	int error = vcompute_charge_session(session->dev, session->user);

	session->charged = !error;
	return error;
}

static int allocate_memory(struct vcompute_session *session, u64 length)
{
	struct vcompute_region *memory = vcompute_region_new(session->dev, session->user, 0, length);
	int error;

	if (IS_ERR(memory))
		return PTR_ERR(memory);
	session->memory = memory;
	error = vcompute_region_allocate(memory);
	if (error)
		return error;
	/* SESSION_CREATE is one message. */
	if (memory->extent_count > VIRTIO_COMPUTE_MAX_EXTENTS_PER_MESSAGE ||
	    memory->extent_count > session->dev->max_extents)
		return -E2BIG;
	session->extents = memory->extent_count;
	return 0;
}

static struct vcompute_request *creation_request(struct vcompute_session *session,
						 const struct vcompute_session_options *options)
{
	struct vcompute_region *memory = session->memory;
	struct virtio_compute_session_create *create;
	struct vcompute_request *request;

	request = vcompute_request_new(session->dev, VIRTIO_COMPUTE_SESSION_CREATE, sizeof(*create),
				       sizeof(request->reply.session_create), created);
	if (!request)
		return NULL;
	if (vcompute_request_add_extents(request, memory->extents, memory->extent_count)) {
		vcompute_request_put(request);
		return NULL;
	}
	request->session = session;
	create = &request->message.session_create;
	create->length = cpu_to_le64((u64)memory->page_count << PAGE_SHIFT);
	create->extent_count = cpu_to_le32(memory->extent_count);
	create->options.process = cpu_to_le32(options->process);
	create->options.flags = cpu_to_le32(options->flags);
	create->options.max_connections = cpu_to_le32(options->max_connections);
	create->options.device = cpu_to_le32(options->device);
	return request;
}

static bool is_created(void *object)
{
	struct vcompute_session *session = object;
	bool done;

	spin_lock(&session->lock);
	done = session->state != SESSION_CREATING;
	spin_unlock(&session->lock);
	return done;
}

/* The device may know of the session from here on; its reference goes with vcompute_session_ended(). */
static int submit_creation(struct vcompute_session *session, const struct vcompute_session_options *options)
{
	struct vcompute_device *dev = session->dev;
	struct vcompute_request *request = creation_request(session, options);

	if (!request)
		return -ENOMEM;
	vcompute_session_get(session);
	spin_lock_irq(&dev->sessions_lock);
	list_add_tail(&session->node, &dev->sessions);
	spin_unlock_irq(&dev->sessions_lock);
	vcompute_request_submit(request);
	vcompute_request_put(request);
	return 0;
}

/**
 * vcompute_session_create() - make a session
 * @dev: the device
 * @length: bytes of its first region
 * @options: what the device is told
 *
 * Context: process; waits for the device.
 * Return: the session with a reference, or an error pointer.
 */
struct vcompute_session *vcompute_session_create(struct vcompute_device *dev, u64 length,
						 const struct vcompute_session_options *options)
{
	struct vcompute_session *session;
	int error;

	switch (READ_ONCE(dev->state)) {
	case VIRTIO_COMPUTE_STATE_STARTING:
		return ERR_PTR(READ_ONCE(dev->control.online) ? -EAGAIN : -ENODEV);
	case VIRTIO_COMPUTE_STATE_READY:
		break;
	case VIRTIO_COMPUTE_STATE_NO_GPU:
		return ERR_PTR(-ENXIO);
	default:
		return ERR_PTR(-ENODEV);
	}

	session = session_new(dev);
	if (IS_ERR(session))
		return session;
	error = charge(session);
	if (!error)
		error = allocate_memory(session, length);
	if (!error)
		error = submit_creation(session, options);
	if (error) {
		vcompute_session_put(session);
		return ERR_PTR(error);
	}

	error = vcompute_device_wait(dev, is_created, session);
	if (!error) {
		spin_lock(&session->lock);
		error = session->result;
		spin_unlock(&session->lock);
	}
	if (error) {
		vcompute_session_end(session);
		vcompute_session_put(session);
		return ERR_PTR(error);
	}
	return session;
}

/**
 * vcompute_session_wait() - sleep while a word of the first region has a value
 * @session: the session
 * @wait: which word, which value, how long
 *
 * The word is looked at after the sleeper is on the queue, and an event wakes
 * the queue after the device has changed the word: no wake-up is lost.
 *
 * Context: process.
 * Return: 0, -ETIMEDOUT, -EINTR, -ENODEV or -EINVAL.
 */
int vcompute_session_wait(struct vcompute_session *session, const struct vcompute_wait *wait)
{
	const struct vcompute_region *memory = session->memory;
	u64 timeout = min_t(u64, wait->timeout_ns, MAX_WAIT_NS);
	const u32 *word;
	int error;

	if (wait->flags || wait->offset % sizeof(*word) || wait->offset >> PAGE_SHIFT >= memory->page_count)
		return -EINVAL;
	word = page_address(memory->pages[wait->offset >> PAGE_SHIFT]) + offset_in_page(wait->offset);

	error = wait_event_interruptible_hrtimeout(session->wait,
						   READ_ONCE(*word) != wait->expected ||
						   READ_ONCE(session->dead), ns_to_ktime(timeout));
	if (READ_ONCE(session->dead))
		return -ENODEV;
	if (error == -ETIME)
		return -ETIMEDOUT;
	return error == -ERESTARTSYS ? -EINTR : error;
}

/**
 * vcompute_session_poll() - whether a lane has something
 * @session: the session
 * @file: its file
 * @table: of the poller
 *
 * Return: what poll() reports.
 */
__poll_t vcompute_session_poll(struct vcompute_session *session, struct file *file, poll_table *table)
{
	const struct virtio_compute_session_header *header = page_address(session->memory->pages[0]);

	poll_wait(file, &session->wait, table);
	if (READ_ONCE(session->dead))
		return EPOLLIN | EPOLLERR | EPOLLHUP;
	return READ_ONCE(header->pending_events) ? EPOLLIN : 0;
}
