/* SPDX-License-Identifier: ((GPL-2.0-only WITH Linux-syscall-note) OR BSD-3-Clause) */
/*
 * Virtio compute device: what a driver and the device say to each other.
 *
 * The normative text is virtio-spec/virtio-compute.md. The same structures in
 * Rust are the modules device, control, info and session of the crate
 * virtio-spec; a test of that crate compares every offset and number.
 */
#ifndef _UAPI_LINUX_VIRTIO_COMPUTE_H
#define _UAPI_LINUX_VIRTIO_COMPUTE_H

#include <linux/types.h>

/*
 * Identity. The ID is one that stock QEMU's table names ("parameter server")
 * but that was never specified; the magic tells the device from any other.
 */
#define VIRTIO_ID_COMPUTE		38

#define VIRTIO_COMPUTE_MAGIC		0x504d4356 /* "VCMP" */
#define VIRTIO_COMPUTE_PROTOCOL_VERSION	1

#define VIRTIO_COMPUTE_CONTROLQ		0
#define VIRTIO_COMPUTE_EVENTQ		1
#define VIRTIO_COMPUTE_QUEUE_COUNT	2
#define VIRTIO_COMPUTE_QUEUE_SIZE	256

/* Feature bits. Reserved: protocol version 1 offers none. */
#define VIRTIO_COMPUTE_F_HOST_MEMORY	0

/* Configuration space, read-only. */
struct virtio_compute_config {
	__le32 magic;		/* VIRTIO_COMPUTE_MAGIC */
	__le32 version;		/* VIRTIO_COMPUTE_PROTOCOL_VERSION */
	__le32 generation;	/* counts changes of what follows and of the information */
	__le32 state;		/* enum virtio_compute_state */
	__le32 device_count;	/* CUDA devices that this VM may use */
	__le32 info_bytes;	/* bytes of the device information */
	__le32 max_sessions;
	__le32 max_lanes;	/* of one session */
	__le32 max_regions;	/* of one session */
	__le32 max_extents;	/* of one session */
	__le32 reserved[6];
};

enum virtio_compute_state {
	VIRTIO_COMPUTE_STATE_STARTING	= 0, /* no device information yet */
	VIRTIO_COMPUTE_STATE_READY	= 1,
	VIRTIO_COMPUTE_STATE_NO_GPU	= 2, /* the information says zero devices */
	VIRTIO_COMPUTE_STATE_FAILED	= 3, /* every session is dead, new ones are refused */
};

/*
 * controlq: a chain is device-readable request (header, structure of its
 * type, extents), then device-writable room for the reply.
 */
enum virtio_compute_type {
	VIRTIO_COMPUTE_HELLO		= 1, /* hello -> hello_reply */
	VIRTIO_COMPUTE_DEVICE_INFO	= 2, /* device_info -> bytes */
	VIRTIO_COMPUTE_SESSION_CREATE	= 3, /* session_create, extents -> session_create_reply */
	VIRTIO_COMPUTE_SESSION_DESTROY	= 4, /* answered when the worker is gone */
	VIRTIO_COMPUTE_MAP		= 5, /* map, extents */
	VIRTIO_COMPUTE_UNMAP		= 6, /* answered when the pages are no longer touched */
	VIRTIO_COMPUTE_KICK		= 7,
	VIRTIO_COMPUTE_STATUS		= 8, /* -> status_reply, quantities, process uses */
};

enum virtio_compute_status {
	VIRTIO_COMPUTE_STATUS_OK		= 0,
	VIRTIO_COMPUTE_STATUS_INVALID		= 1,
	VIRTIO_COMPUTE_STATUS_UNSUPPORTED	= 2,
	VIRTIO_COMPUTE_STATUS_NO_SESSION	= 3,
	VIRTIO_COMPUTE_STATUS_LIMIT		= 4,
	VIRTIO_COMPUTE_STATUS_NO_MEMORY		= 5,
	VIRTIO_COMPUTE_STATUS_NOT_SHARED	= 6, /* guest memory that the device cannot see */
	VIRTIO_COMPUTE_STATUS_AGAIN		= 7, /* the device is starting */
	VIRTIO_COMPUTE_STATUS_FAILED		= 8,
	VIRTIO_COMPUTE_STATUS_ADDRESS_TAKEN	= 9,
};

struct virtio_compute_request_header {
	__le32 kind;		/* enum virtio_compute_type */
	__le32 session;		/* 0 for HELLO, DEVICE_INFO and SESSION_CREATE */
	__le32 length;		/* bytes that follow in the device-readable part */
	__le32 flags;		/* 0 */
};

struct virtio_compute_reply_header {
	__le32 status;		/* enum virtio_compute_status */
	__le32 length;		/* bytes that follow */
};

struct virtio_compute_hello {
	__le64 boot_nonce;	/* sessions of another nonce are destroyed */
	__le32 version;
	__le32 reserved;
};

struct virtio_compute_hello_reply {
	__le32 version;
	__le32 state;		/* enum virtio_compute_state */
	__le32 generation;
	__le32 info_bytes;
};

struct virtio_compute_device_info {
	__le32 offset;
	__le32 length;		/* the reply is shorter where the information ends */
};

/* CUDA_MODULE_LOADING=EAGER */
#define VIRTIO_COMPUTE_OPTION_EAGER_LOADING	(1U << 0)
#define VIRTIO_COMPUTE_OPTION_ALL		VIRTIO_COMPUTE_OPTION_EAGER_LOADING

struct virtio_compute_session_options {
	__le32 process;		/* guest process ID, for log lines */
	__le32 flags;		/* VIRTIO_COMPUTE_OPTION_* */
	__le32 max_connections;	/* CUDA_DEVICE_MAX_CONNECTIONS, 0 = unset */
	__le32 device;		/* which one is used first: a hint */
	__le32 reserved[4];
};

struct virtio_compute_session_create {
	__le64 length;		/* bytes of the first region; the extents cover exactly these */
	__le32 extent_count;
	__le32 reserved;
	struct virtio_compute_session_options options;
};

struct virtio_compute_session_create_reply {
	__le32 session;		/* never 0, not reused while the device is running */
	__le32 reserved;
};

/* Contiguous guest-physical memory, in multiples of 4 KiB. */
struct virtio_compute_extent {
	__le64 address;
	__le64 length;
};

/* The worker maps the region read-only. */
#define VIRTIO_COMPUTE_MAP_READ_ONLY	(1U << 0)
#define VIRTIO_COMPUTE_MAP_ALL		VIRTIO_COMPUTE_MAP_READ_ONLY

/*
 * A region with more extents than one message takes is sent in several, each
 * with the same region, address and length.
 */
struct virtio_compute_map {
	__le32 region;		/* 1 or higher, not in use */
	__le32 flags;		/* VIRTIO_COMPUTE_MAP_* */
	__le64 address;		/* in the guest process and in the worker */
	__le64 length;		/* of the whole region */
	__le32 extent_count;	/* in this message */
	__le32 reserved;
};

struct virtio_compute_unmap {
	__le32 region;
	__le32 reserved;
};

/* eventq: a doorbell only; the truth is in session memory. */
enum virtio_compute_event_type {
	VIRTIO_COMPUTE_EVENT_SESSION		= 1,
	VIRTIO_COMPUTE_EVENT_SESSION_DIED	= 2,
	VIRTIO_COMPUTE_EVENT_CONFIG		= 3,
};

struct virtio_compute_event {
	__le32 kind;		/* enum virtio_compute_event_type */
	__le32 session;
	__le32 generation;
	__le32 reserved;
};

/* Head of the device information; the driver looks at the first four fields. */
#define VIRTIO_COMPUTE_INFO_MAGIC	0x4e494356 /* "VCIN" */

struct virtio_compute_info_header {
	__le32 magic;
	__le32 version;
	__le32 generation;
	__le32 device_count;
	__le32 driver_version;
	__le32 init_result;
	__le32 reserved[10];
};

/*
 * STATUS; numbers of each device and uses of each process follow
 * (virtio-spec/src/management.rs).
 */
struct virtio_compute_status_reply {
	__le32 generation;
	__le32 device_count;
	__le32 process_count;
	__le32 reserved;
};

/* Start of session memory; the driver looks at pending_events alone (poll). */
struct virtio_compute_session_header {
	__le32 magic;
	__le32 version;
	__le32 lane_count;
	__le32 queue_size;
	__le32 slot_count;
	__le32 slot_bytes;
	__le64 staging_bytes;
	__le32 lanes_used;
	__le32 reserved0[7];

	__le32 sticky_error;
	__le32 worker_state;
	__le64 pending_events;
	__le32 device_backstops;
	__le32 output_waiting;
	__le32 reserved1[10];

	__le64 next_sequence;
	__le32 guest_backstops;
	__le32 reserved2[13];
};

/* Bounds; the reasons are in the crate's module limits. */
#define VIRTIO_COMPUTE_MAX_SESSIONS		256
#define VIRTIO_COMPUTE_MAX_REGIONS		4096
#define VIRTIO_COMPUTE_MAX_EXTENTS		16384
#define VIRTIO_COMPUTE_MAX_EXTENTS_PER_MESSAGE	2048
#define VIRTIO_COMPUTE_MAX_CONTROL_CHAIN	16
#define VIRTIO_COMPUTE_MAX_SESSION_BYTES	(320U << 20)
#define VIRTIO_COMPUTE_MAX_INFO_BYTES		65536

#endif /* _UAPI_LINUX_VIRTIO_COMPUTE_H */
