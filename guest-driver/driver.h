/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest driver of the virtio compute device: what its files share.
 *
 * Read in this order: main.c (a device comes and goes), controlq.c and
 * eventq.c (how it is talked to), info.c (what it says about itself), node.c
 * and file.c (what a process can do), session.c, region.c, map.c and pin.c
 * (what a process has), quarantine.c (how that ends), status.c (what the
 * device is doing), account.c, params.c, debug.c.
 *
 * Who keeps what alive
 *
 *   vcompute_device   the virtio device, the device node, each open file, session,
 *                     region and submitted request. Outlives the virtio device: vdev and
 *                     the virtqueues are used only while control.online.
 *   vcompute_session  its file, and the device for as long as it may know the
 *                     session; each submitted request.
 *   vcompute_region   its session's table for as long as the device may touch
 *                     the pages; each mapping (VMA); each submitted request.
 *                     Region 0 is held by its session instead of the table.
 *   vcompute_request  its maker, and controlq from submission until answer or
 *                     device reset. Never on a stack.
 *
 * So whatever a process does, or however it dies, memory that the device was
 * given stays allocated until the device has answered that it is done with it,
 * or has been reset.
 *
 * Lock order, outermost first; locks on one line are never nested
 *
 *   mmap_lock
 *     session->lock     state of the session and of its regions
 *       xa_lock         of session->regions
 *     control.lock      (irq) the controlq, requests on it, kicks
 *     event.lock        (irq) the eventq
 *       sessions_lock   (irq) list and hash of a device's sessions
 *         wait queues   (irq) dev->replies, session->wait
 *   info_lock           replacement of the device information
 *   status_lock         which STATUS request is under way
 *   accounts_lock       what users and devices hold
 *
 * All are spinlocks: none is held across a wait. INFO, read, open, KICK, WAIT
 * and poll never take session->lock; INFO, read and open take no lock at all.
 * STATUS takes status_lock and control.lock, one after the other.
 */
#ifndef VCOMPUTE_DRIVER_H
#define VCOMPUTE_DRIVER_H

#include <linux/atomic.h>
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/spinlock.h>
#include <linux/uidgid.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <linux/vcompute.h>
#include <linux/virtio_compute.h>

#define EXTENTS_PER_PAGE	(PAGE_SIZE / sizeof(struct virtio_compute_extent))
#define EXTENT_PAGES_PER_MESSAGE (VIRTIO_COMPUTE_MAX_EXTENTS_PER_MESSAGE / EXTENTS_PER_PAGE)

/* Bytes of device information in one request: with the rest of the chain below the device's bound. */
#define INFO_PAGES_PER_MESSAGE	8
#define MAX_INFO_PAGES		(VIRTIO_COMPUTE_MAX_INFO_BYTES / PAGE_SIZE)

struct vcompute_device;
struct vcompute_session;
struct vcompute_region;
struct vcompute_user;

/**
 * struct vcompute_request - one request on the controlq
 * @ref: the maker's and, while submitted, the queue's
 * @node: on backlog, in_flight or done of the device
 * @dev: the device; referenced while submitted
 * @session: referenced while submitted, or NULL
 * @region: referenced while submitted, or NULL
 * @finish: called in process context after the answer or the reset; NULL for a KICK
 * @finished: @finish is through with it; only of a STATUS
 * @reset: the device was reset, or never got the request: it holds nothing
 * @status: the device's answer, if not @reset
 * @answered: bytes of the answer's payload
 * @payload_bytes: bytes of @message after its header
 * @reply_bytes: bytes of @reply after its header
 * @extents: pages of extents that follow @message
 * @extent_count: extents in @extents
 * @data: pages to receive the payload in, instead of @reply
 * @data_bytes: bytes to receive in @data
 * @own: pages of the request's own that @data may be
 * @message: the device-readable part
 * @reply: the device-writable part
 */
struct vcompute_request {
	struct kref ref;
	struct list_head node;
	struct vcompute_device *dev;
	struct vcompute_session *session;
	struct vcompute_region *region;
	void (*finish)(struct vcompute_request *request);

	bool finished;
	bool reset;
	u32 status;
	u32 answered;

	u32 payload_bytes;
	u32 reply_bytes;
	void *extents[EXTENT_PAGES_PER_MESSAGE];
	u32 extent_count;
	struct page **data;
	u32 data_bytes;
	struct page *own[INFO_PAGES_PER_MESSAGE];

	struct {
		struct virtio_compute_request_header header;
		union {
			struct virtio_compute_hello hello;
			struct virtio_compute_device_info device_info;
			struct virtio_compute_session_create session_create;
			struct virtio_compute_map map;
			struct virtio_compute_unmap unmap;
		};
	} message;

	struct {
		struct virtio_compute_reply_header header;
		union {
			struct virtio_compute_hello_reply hello;
			struct virtio_compute_session_create_reply session_create;
		};
	} reply ____cacheline_aligned;
};

/**
 * struct vcompute_information - one state of the device information
 * @ref: the device's, and each mmap() under way
 * @rcu: frees it after the last lockless reader
 * @state: enum virtio_compute_state that the device said with it, or has said since
 * @generation: of the device information
 * @bytes: of it
 * @page_count: entries of @pages
 * @pages: the pages; a mapping has references of its own
 */
struct vcompute_information {
	struct kref ref;
	struct rcu_head rcu;
	u32 state;
	u32 generation;
	u32 bytes;
	u32 page_count;
	struct page *pages[MAX_INFO_PAGES];
};

/**
 * struct vcompute_device - one virtio compute device
 * @ref: see "Who keeps what alive"
 * @vdev: the virtio device, while control.online
 * @node: the device node's device; has a reference of its own
 * @cdev: what opens the node; keeps @node
 * @index: minor number, and number in the node's name
 * @state: enum virtio_compute_state
 * @max_sessions: from the configuration space
 * @max_regions: of one session
 * @max_extents: of one session
 * @boot_nonce: drawn at each start of the device
 * @control: the controlq; its members are protected by its lock
 * @event: the eventq
 * @replies: woken whenever a request has been finished, or the device is lost
 * @reply_work: finishes answered requests
 * @broken_work: the part of giving the device up that needs a process
 * @sessions_lock: protects @sessions and @numbers against writers
 * @sessions: every session that the device may know
 * @numbers: those sessions by the device's number; read under RCU
 * @info_lock: protects @info against writers
 * @info: the device information, or NULL; read under RCU
 * @refresh_work: begins to fetch the device information
 * @refresh_flags: REFRESH_*
 * @refresh_delay: pause in jiffies before the next attempt
 * @incoming: the device information that is being fetched
 * @incoming_offset: bytes of it that have arrived
 * @incoming_state: enum virtio_compute_state to show when it is whole
 * @status_lock: protects @status_request
 * @status_request: the one STATUS request, while it is under way; no reference
 * @account: what its sessions hold; protected by accounts_lock
 * @events: events received
 * @kicks: KICK requests sent
 * @kicks_joined: kicks that joined one under way
 * @debug: its directory in debugfs
 */
struct vcompute_device {
	struct kref ref;
	struct virtio_device *vdev;
	struct device node;
	struct cdev cdev;
	int index;
	u32 state;
	u32 max_sessions;
	u32 max_regions;
	u32 max_extents;
	u64 boot_nonce;

	struct {
		spinlock_t lock;
		struct virtqueue *vq;
		struct list_head backlog;
		struct list_head in_flight;
		struct list_head done;
		bool online;
		bool broken;
	} control;

	struct {
		spinlock_t lock;
		struct virtqueue *vq;
		struct virtio_compute_event *buffers;
	} event;

	wait_queue_head_t replies;
	struct work_struct reply_work;
	struct work_struct broken_work;

	spinlock_t sessions_lock;
	struct list_head sessions;
	DECLARE_HASHTABLE(numbers, 6);

	spinlock_t info_lock;
	struct vcompute_information __rcu *info;
	struct delayed_work refresh_work;
	unsigned long refresh_flags;
	unsigned long refresh_delay;
	struct vcompute_information *incoming;
	u32 incoming_offset;
	u32 incoming_state;

	spinlock_t status_lock;
	struct vcompute_request *status_request;

	struct {
		u32 sessions;
		u64 pages;
	} account;

	atomic64_t events;
	atomic64_t kicks;
	atomic64_t kicks_joined;
	struct dentry *debug;
};

/* refresh_flags */
#define REFRESH_BUSY	0	/* requests are under way */
#define REFRESH_WANTED	1	/* something has changed since they began */

enum vcompute_session_state {
	SESSION_CREATING,	/* SESSION_CREATE is under way */
	SESSION_LIVE,
	SESSION_CLOSING,	/* SESSION_DESTROY is under way */
	SESSION_QUARANTINED,	/* the device could not end it: kept until reset */
	SESSION_ENDED,		/* the device knows nothing of it */
};

/**
 * struct vcompute_session - one session
 * @ref: see "Who keeps what alive"
 * @rcu: frees it after the last event that looked it up
 * @free_work: lets go of what only a process may free
 * @dev: the device, referenced
 * @user: whom it is charged to, referenced
 * @process: thread group that made it; its session ends with it
 * @charged: it counts against the limits on sessions
 * @node: on the device's list
 * @number_node: in the device's hash
 * @number: the device's number of it
 * @lock: protects @state, @result, @closing, @extents and the state of regions
 * @state: enum vcompute_session_state
 * @result: why creation failed
 * @closing: nobody wants it any more
 * @dead: its worker has ended; set once
 * @ended: the device knows nothing of it; set once, under control.lock
 * @kick_busy: @kick is submitted; protected by control.lock
 * @kick_again: another is wanted after it; protected by control.lock
 * @extents: pieces of memory that its regions have
 * @memory: the first region
 * @regions: the others, by number
 * @next_region: where the search for a free number starts
 * @wait: sleepers in WAIT and poll
 * @kick: the one KICK request
 * @destroy: the one SESSION_DESTROY request
 */
struct vcompute_session {
	struct kref ref;
	struct rcu_head rcu;
	struct work_struct free_work;
	struct vcompute_device *dev;
	struct vcompute_user *user;
	pid_t process;
	bool charged;
	struct list_head node;
	struct hlist_node number_node;
	u32 number;

	spinlock_t lock;
	enum vcompute_session_state state;
	int result;
	bool closing;
	bool dead;
	bool ended;
	bool kick_busy;
	bool kick_again;
	u32 extents;

	struct vcompute_region *memory;
	struct xarray regions;
	u32 next_region;
	wait_queue_head_t wait;

	struct vcompute_request *kick;
	struct vcompute_request *destroy;
};

enum vcompute_region_state {
	REGION_NEW,		/* the device has not heard of it */
	REGION_MAPPING,		/* MAP is under way */
	REGION_MAPPED,
	REGION_UNMAPPING,	/* UNMAP is under way */
	REGION_STUCK,		/* the device could not unmap it: kept until the session's end */
	REGION_GONE,		/* the device knows nothing of it */
};

/**
 * struct vcompute_region - memory that a session shares with the device
 * @ref: see "Who keeps what alive"
 * @dev: the device, referenced
 * @user: whom it is charged to, referenced
 * @number: within its session
 * @flags: VIRTIO_COMPUTE_MAP_*
 * @address: in the process and in the worker
 * @page_count: pages of 4 KiB
 * @pages: the pages, if they are our own; NULL for pinned ones
 * @pinned: the pages are a process's, pinned
 * @extents: the pages as contiguous pieces
 * @extent_count: entries of @extents
 * @state: enum vcompute_region_state; protected by the session's lock
 * @result: how mapping or unmapping ended; protected by the session's lock
 * @abandoned: whoever waited for MAP has gone; protected by the session's lock
 * @partly: the device has answered a message of MAP; protected by the session's lock
 * @complete: the device has mapped it; protected by the session's lock, set once
 * @messages: MAP requests that are still to be sent
 * @unmap: the one UNMAP request
 */
struct vcompute_region {
	struct kref ref;
	struct vcompute_device *dev;
	struct vcompute_user *user;
	u32 number;
	u32 flags;
	u64 address;
	unsigned long page_count;
	struct page **pages;
	bool pinned;
	struct virtio_compute_extent *extents;
	u32 extent_count;

	enum vcompute_region_state state;
	int result;
	bool abandoned;
	bool partly;
	bool complete;
	struct list_head messages;
	struct vcompute_request *unmap;
};

/**
 * struct vcompute_file - an open file of the device node
 * @dev: the device, referenced
 * @session: its session once there is one, referenced; written once
 * @creating: SESSION_CREATE has begun; set back if it fails
 */
struct vcompute_file {
	struct vcompute_device *dev;
	struct vcompute_session *session;
	atomic_t creating;
};

/**
 * struct vcompute_counts - what the module holds at present, for tests
 * @devices: struct vcompute_device
 * @files: struct vcompute_file
 * @sessions: struct vcompute_session
 * @regions: struct vcompute_region
 * @requests: struct vcompute_request
 * @users: struct vcompute_user
 * @own_pages: pages allocated for regions
 * @pinned_pages: pages of processes
 */
struct vcompute_counts {
	atomic_t devices;
	atomic_t files;
	atomic_t sessions;
	atomic_t regions;
	atomic_t requests;
	atomic_t users;
	atomic_long_t own_pages;
	atomic_long_t pinned_pages;
};

extern struct vcompute_counts vcompute_counts;
extern struct workqueue_struct *vcompute_wq;

/* main.c */
void vcompute_device_get(struct vcompute_device *dev);
void vcompute_device_put(struct vcompute_device *dev);
void vcompute_device_broken(struct vcompute_device *dev, const char *why);
bool vcompute_device_lost(struct vcompute_device *dev);
long vcompute_device_wait(struct vcompute_device *dev, bool (*done)(void *object), void *object);
long vcompute_device_watch(struct vcompute_device *dev, bool (*done)(void *object), void *object, long left);

/* controlq.c */
void vcompute_control_init(struct vcompute_device *dev);
void vcompute_control_interrupt(struct virtqueue *vq);
void vcompute_control_reset(struct vcompute_device *dev);
struct vcompute_request *vcompute_request_new(struct vcompute_device *dev, u32 kind, u32 payload_bytes,
					      u32 reply_bytes,
					      void (*finish)(struct vcompute_request *request));
int vcompute_request_add_extents(struct vcompute_request *request,
				 const struct virtio_compute_extent *extents, u32 count);
void vcompute_request_put(struct vcompute_request *request);
void vcompute_request_submit(struct vcompute_request *request);
int vcompute_request_errno(const struct vcompute_request *request);
int vcompute_control_kick(struct vcompute_session *session);

/* eventq.c */
int vcompute_event_init(struct vcompute_device *dev);
int vcompute_event_start(struct vcompute_device *dev);
void vcompute_event_interrupt(struct virtqueue *vq);

/* info.c */
void vcompute_info_init(struct vcompute_device *dev);
void vcompute_info_refresh(struct vcompute_device *dev);
void vcompute_info_stop(struct vcompute_device *dev);
void vcompute_info_get(struct vcompute_device *dev, struct vcompute_info *out);
ssize_t vcompute_info_read(struct vcompute_device *dev, char __user *to, size_t size);
int vcompute_info_mmap(struct vcompute_device *dev, struct vm_area_struct *vma);

/* status.c */
void vcompute_status_init(struct vcompute_device *dev);
long vcompute_status_get(struct vcompute_device *dev, struct vcompute_status *status);

/* file.c */
extern const struct file_operations vcompute_file_operations;

/* node.c */
int vcompute_nodes_init(void);
void vcompute_nodes_exit(void);
int vcompute_node_new(struct vcompute_device *dev);
int vcompute_node_add(struct vcompute_device *dev);
void vcompute_node_remove(struct vcompute_device *dev);
void vcompute_node_put(struct vcompute_device *dev);

/* session.c */
struct vcompute_session *vcompute_session_create(struct vcompute_device *dev, u64 length,
						 const struct vcompute_session_options *options);
void vcompute_session_get(struct vcompute_session *session);
void vcompute_session_put(struct vcompute_session *session);
bool vcompute_session_announce(struct vcompute_session *session, u32 number);
void vcompute_session_event(struct vcompute_device *dev, u32 number, bool died);
void vcompute_session_died(struct vcompute_session *session);
void vcompute_sessions_died(struct vcompute_device *dev);
int vcompute_session_wait(struct vcompute_session *session, const struct vcompute_wait *wait);
__poll_t vcompute_session_poll(struct vcompute_session *session, struct file *file, poll_table *table);

/* quarantine.c */
void vcompute_session_end(struct vcompute_session *session);
void vcompute_session_ended(struct vcompute_session *session);
void vcompute_session_destroyed(struct vcompute_request *request);
void vcompute_sessions_reset(struct vcompute_device *dev);

/* region.c */
struct vcompute_region *vcompute_region_new(struct vcompute_device *dev, struct vcompute_user *user,
					    u64 address, u64 length);
int vcompute_region_allocate(struct vcompute_region *region);
int vcompute_region_set_extents(struct vcompute_region *region, struct page **pages);
void vcompute_region_get(struct vcompute_region *region);
void vcompute_region_put(struct vcompute_region *region);
int vcompute_region_mmap(struct vcompute_region *region, struct vm_area_struct *vma);

/* map.c */
int vcompute_region_map(struct vcompute_session *session, struct vcompute_region *region);
int vcompute_region_unmap(struct vcompute_session *session, u32 number);
void vcompute_region_abandon(struct vcompute_session *session, struct vcompute_region *region);
void vcompute_region_gone(struct vcompute_session *session, struct vcompute_region *region, int result);
struct vcompute_region *vcompute_region_find(struct vcompute_session *session, u32 number);

/* pin.c */
int vcompute_region_pin(struct vcompute_region *region);
void vcompute_region_unpin(struct vcompute_region *region);

/* account.c */
struct vcompute_user *vcompute_user_find(kuid_t uid);
void vcompute_user_get(struct vcompute_user *user);
void vcompute_user_put(struct vcompute_user *user);
int vcompute_charge_session(struct vcompute_device *dev, struct vcompute_user *user);
void vcompute_uncharge_session(struct vcompute_device *dev, struct vcompute_user *user);
int vcompute_charge_pages(struct vcompute_device *dev, struct vcompute_user *user, unsigned long pages);
void vcompute_uncharge_pages(struct vcompute_device *dev, struct vcompute_user *user, unsigned long pages);

/* params.c */
unsigned int vcompute_max_sessions_of_user(void);
unsigned long vcompute_max_pages_of_user(void);
unsigned long vcompute_max_pages_of_device(void);
unsigned long vcompute_request_timeout(void);
u32 vcompute_info_flags(void);

/* debug.c */
void vcompute_debug_init(void);
void vcompute_debug_exit(void);
void vcompute_debug_add(struct vcompute_device *dev);
void vcompute_debug_remove(struct vcompute_device *dev);

#endif /* VCOMPUTE_DRIVER_H */
