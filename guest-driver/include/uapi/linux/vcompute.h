/* SPDX-License-Identifier: ((GPL-2.0-only WITH Linux-syscall-note) OR BSD-3-Clause) */
/*
 * /dev/vcompute0: how a process reaches the virtio compute device.
 *
 * One open file is at most one session. The order of a session's life:
 *
 *  1. open(); read(), VCOMPUTE_IOCTL_INFO and mmap(VCOMPUTE_MMAP_INFO) need no
 *     session and never wait for the device;
 *  2. VCOMPUTE_IOCTL_SESSION_CREATE allocates the first region, zeroed, and
 *     makes the session;
 *  3. mmap(VCOMPUTE_MMAP_REGION) maps that region, and the process writes its
 *     header (struct virtio_compute_session_header);
 *  4. the first VCOMPUTE_IOCTL_KICK makes the worker read the header: it must
 *     be complete by then, and its four sizes must not change afterwards;
 *  5. the session ends when the process that made it exits, or when nobody has
 *     the file or a mapping of it any more. Neither waits: pages that the
 *     device may still write stay with the driver until the device has said
 *     that it is done with them.
 *
 * Session memory (region 0) is not inherited by fork(). A region made by MAP
 * is, as a shared mapping of the same pages, which stay allocated until the
 * last process has unmapped them.
 *
 * Errors that every ioctl but INFO can return:
 *
 *  ENODEV		the device is gone or has failed, or the session is dead
 *			(its worker ended, or the machine was suspended)
 *  ENOTCONN		the file has no session yet
 *  EINVAL		an argument is out of range, or a reserved field is not zero
 *  EFAULT		the argument, or memory to register, cannot be accessed
 *  ENOMEM		the guest's kernel, or the host, has no memory for it
 *
 * and those that wait for the device (SESSION_CREATE, MAP, REGISTER, UNMAP, STATUS):
 *
 *  EINTR		the process is being killed
 *  ETIMEDOUT		the device did not answer in time (module parameter
 *			request_timeout_ms); what was begun is undone when it does
 *  EREMOTEIO		the device answered that its part has failed
 *  EPROTO		the device answered what this driver does not know
 *  EOPNOTSUPP		the device does not know the request
 */
#ifndef _UAPI_LINUX_VCOMPUTE_H
#define _UAPI_LINUX_VCOMPUTE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VCOMPUTE_DEVICE_PATH		"/dev/vcompute0"

/*
 * Offsets for mmap(). The device information can be mapped for reading only.
 * Region n lies at VCOMPUTE_MMAP_REGION + (n << VCOMPUTE_MMAP_REGION_SHIFT)
 * and is mapped MAP_SHARED, whole or in part; region 0 is session memory.
 *
 * mmap() errors: EINVAL for an unknown offset, a private mapping of a region
 * or a length beyond it; EACCES for write access to the device information;
 * EAGAIN while there is no device information; ENOENT for a region that does
 * not exist or was made by REGISTER; ENOTCONN, ENODEV as above.
 */
#define VCOMPUTE_MMAP_INFO		0ULL
#define VCOMPUTE_MMAP_REGION		(1ULL << 52)
#define VCOMPUTE_MMAP_REGION_SHIFT	36

/* The administrator wants no process to do anything before it calls CUDA (module parameter shim=off). */
#define VCOMPUTE_INFO_SHIM_OFF		(1U << 0)

/*
 * INFO: state of the device, from the driver's own memory. Takes no lock and
 * never fails but with EFAULT, or ENODEV when the device is gone.
 *
 * read() answers the same, followed by the device information that it is of:
 * as many of both as fit into the buffer. All of it belongs together, whatever
 * changes meanwhile. The file's offset is neither used nor moved; pread() is
 * refused with ESPIPE. Errors as of INFO.
 */
struct vcompute_info {
	__u32 version;		/* protocol version of the driver */
	__u32 state;		/* enum virtio_compute_state; READY only with device information */
	__u32 generation;	/* of the device information */
	__u32 info_bytes;	/* of device information; 0 while there is none */
	__u32 flags;		/* VCOMPUTE_INFO_*; unknown ones mean nothing */
	__u32 reserved;		/* 0 */
};

/* Options of a session; see struct virtio_compute_session_options. */
struct vcompute_session_options {
	__u32 process;
	__u32 flags;
	__u32 max_connections;
	__u32 device;
	__u32 reserved[4];
};

/*
 * SESSION_CREATE. Also:
 *
 *  EEXIST	the file has a session, or is making one
 *  EAGAIN	the device is starting
 *  ENXIO	the host has no usable GPU
 *  EDQUOT	the user's sessions or pinned memory reach their limit
 *  ENOSPC	the device's sessions or pinned memory reach their limit
 *  E2BIG	free memory is too fragmented for the region
 *  EXDEV	guest memory is not shared with the device
 */
struct vcompute_session_create {
	__u64 length;		/* of the first region: a multiple of 4 KiB */
	struct vcompute_session_options options;
	__u32 session;		/* out: number of the session */
	__u32 reserved;
};

/*
 * MAP: allocates a region of zeroed, pinned pages, which the process maps
 * with mmap() at address. The worker maps it at the same address. Also:
 *
 *  EDQUOT, EXDEV	as above
 *  ENOSPC		the session's regions, or the device's pinned memory, reach
 *			their limit
 *  E2BIG		the session's extents (pieces of contiguous memory) reach
 *			their limit
 *  EADDRINUSE		the worker has something else at that address
 */
struct vcompute_map {
	__u64 address;		/* page-aligned */
	__u64 length;		/* a multiple of 4 KiB, at most 64 GiB */
	__u32 flags;		/* 0 */
	__u32 region;		/* out: number of the region */
};

/*
 * UNMAP: takes a region away from the worker, and its pages from the driver.
 * Mappings of the region stay usable. Also:
 *
 *  ENOENT	no such region
 *  EBUSY	the region is being mapped or unmapped, or the device could not unmap it
 */
struct vcompute_unmap {
	__u32 region;
	__u32 reserved;
};

/* The worker maps the pages read-only; so it does if any is not writable. */
#define VCOMPUTE_REGISTER_READ_ONLY	(1U << 0)

/*
 * REGISTER: pins pages of the caller and makes them a region, at the same
 * address. RLIMIT_MEMLOCK does not apply; the module's own limits do. What
 * the kernel does not let a device write to for long (pages of a file on disk,
 * DAX) is refused as the kernel does, with EFAULT or EOPNOTSUPP; shared memory
 * and read-only registration of files are accepted. Also:
 *
 *  EDQUOT, ENOSPC, EXDEV, EADDRINUSE	as above
 *  E2BIG	the pages are scattered over more pieces than the session may
 *		have: collapse them into huge pages (MADV_COLLAPSE) and try again
 */
struct vcompute_register {
	__u64 address;		/* page-aligned */
	__u64 length;		/* a multiple of 4 KiB, at most 64 GiB */
	__u32 flags;		/* VCOMPUTE_REGISTER_* */
	__u32 region;		/* out: number of the region */
};

/*
 * KICK: wakes the session's sleeping lanes. Does not wait; kicks that come
 * while one is under way become one.
 */
struct vcompute_kick {
	__u32 flags;		/* 0 */
	__u32 reserved;
};

/*
 * WAIT: sleeps while the 32-bit word at offset of the first region equals
 * expected. Returns 0 when it differs; else:
 *
 *  ETIMEDOUT	the time is over; the driver caps it at one second
 *  EINTR	a signal came
 */
struct vcompute_wait {
	__u64 offset;		/* a multiple of 4 */
	__u32 expected;
	__u32 flags;		/* 0 */
	__u64 timeout_ns;
};

/*
 * STATUS: what the devices are doing, as the device answers it (struct
 * virtio_compute_status_reply and what follows), of this machine's processes
 * alone. Needs no session. The answer may be that to another process that has
 * asked a moment before. What does not fit is left out. Also:
 *
 *  EAGAIN	the device is starting, or knows nothing fresh yet: ask again
 *  EINTR	a signal came
 *  ETIMEDOUT	the device did not answer in two seconds, or in
 *		request_timeout_ms if that is less
 */
struct vcompute_status {
	__u64 address;		/* where the answer goes */
	__u32 length;		/* room there; out: bytes of the whole answer */
	__u32 reserved;
};

#define VCOMPUTE_IOCTL_TYPE		0xC6

#define VCOMPUTE_IOCTL_INFO		_IOWR(VCOMPUTE_IOCTL_TYPE, 0, struct vcompute_info)
#define VCOMPUTE_IOCTL_SESSION_CREATE	_IOWR(VCOMPUTE_IOCTL_TYPE, 1, struct vcompute_session_create)
#define VCOMPUTE_IOCTL_MAP		_IOWR(VCOMPUTE_IOCTL_TYPE, 2, struct vcompute_map)
#define VCOMPUTE_IOCTL_UNMAP		_IOWR(VCOMPUTE_IOCTL_TYPE, 3, struct vcompute_unmap)
#define VCOMPUTE_IOCTL_REGISTER		_IOWR(VCOMPUTE_IOCTL_TYPE, 4, struct vcompute_register)
#define VCOMPUTE_IOCTL_KICK		_IOWR(VCOMPUTE_IOCTL_TYPE, 5, struct vcompute_kick)
#define VCOMPUTE_IOCTL_WAIT		_IOWR(VCOMPUTE_IOCTL_TYPE, 6, struct vcompute_wait)
#define VCOMPUTE_IOCTL_STATUS		_IOWR(VCOMPUTE_IOCTL_TYPE, 7, struct vcompute_status)

#endif /* _UAPI_LINUX_VCOMPUTE_H */
