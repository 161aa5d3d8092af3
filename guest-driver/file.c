// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a process does with the device node: open, read, ioctl, mmap, poll, close.
 */
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "driver.h"

/* Takes no lock, and asks the device nothing: any process opens it at its start. */
static int file_open(struct inode *inode, struct file *opened)
{
	struct vcompute_device *dev = container_of(inode->i_cdev, struct vcompute_device, cdev);
	struct vcompute_file *file = kzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);

	if (!file)
		return -ENOMEM;
	vcompute_device_get(dev);
	file->dev = dev;
	opened->private_data = file;
	atomic_inc(&vcompute_counts.files);
	return nonseekable_open(inode, opened);
}

/*
 * A process that exits, or is killed, takes its session along, also where
 * children have inherited the file or mappings of it.
 */
static int file_flush(struct file *opened, fl_owner_t owner)
{
	struct vcompute_file *file = opened->private_data;
	/* Pairs with the release in ioctl_session_create(). */
	struct vcompute_session *session = smp_load_acquire(&file->session);

	if (session && current->flags & PF_EXITING && session->process == current->tgid)
		vcompute_session_end(session);
	return 0;
}

/* The last user of the file is gone. Nothing waits here. */
static int file_release(struct inode *inode, struct file *opened)
{
	struct vcompute_file *file = opened->private_data;

	if (file->session) {
		vcompute_session_end(file->session);
		vcompute_session_put(file->session);
	}
	vcompute_device_put(file->dev);
	kfree(file);
	atomic_dec(&vcompute_counts.files);
	return 0;
}

static struct vcompute_session *session_of(struct vcompute_file *file)
{
	/* Pairs with the release in ioctl_session_create(). */
	struct vcompute_session *session = smp_load_acquire(&file->session);

	if (!session)
		return ERR_PTR(-ENOTCONN);
	if (READ_ONCE(session->dead))
		return ERR_PTR(-ENODEV);
	return session;
}

static long ioctl_info(struct vcompute_file *file, void *argument)
{
	if (!READ_ONCE(file->dev->control.online))
		return -ENODEV;
	vcompute_info_get(file->dev, argument);
	return 0;
}

/* What a process wants to know at its start, in one call; the offset means nothing. */
static ssize_t file_read(struct file *opened, char __user *to, size_t size, loff_t *offset)
{
	struct vcompute_file *file = opened->private_data;

	if (!READ_ONCE(file->dev->control.online))
		return -ENODEV;
	return vcompute_info_read(file->dev, to, size);
}

static bool options_are_known(const struct vcompute_session_options *options)
{
	return !(options->flags & ~VIRTIO_COMPUTE_OPTION_ALL) && options->max_connections <= 32 &&
	       !memchr_inv(options->reserved, 0, sizeof(options->reserved));
}

static long ioctl_session_create(struct vcompute_file *file, void *argument)
{
	struct vcompute_session_create *create = argument;
	struct vcompute_session *session;

	if (create->reserved || !options_are_known(&create->options) ||
	    create->length > VIRTIO_COMPUTE_MAX_SESSION_BYTES)
		return -EINVAL;
	if (atomic_cmpxchg(&file->creating, 0, 1))
		return -EEXIST;
	session = vcompute_session_create(file->dev, create->length, &create->options);
	if (IS_ERR(session)) {
		atomic_set(&file->creating, 0);
		return PTR_ERR(session);
	}
	create->session = session->number;
	/* Whoever sees the session sees it complete. */
	smp_store_release(&file->session, session);
	return 0;
}

static long make_region(struct vcompute_file *file, u64 address, u64 length, u32 flags,
			int (*fill)(struct vcompute_region *region), u32 *number)
{
	struct vcompute_session *session = session_of(file);
	struct vcompute_region *region;
	int error;

	if (IS_ERR(session))
		return PTR_ERR(session);
	region = vcompute_region_new(session->dev, session->user, address, length);
	if (IS_ERR(region))
		return PTR_ERR(region);
	region->flags = flags;
	error = fill(region);
	if (!error)
		error = vcompute_region_map(session, region);
	*number = region->number;
	vcompute_region_put(region);
	return error;
}

static long ioctl_map(struct vcompute_file *file, void *argument)
{
	struct vcompute_map *map = argument;

	if (map->flags)
		return -EINVAL;
	return make_region(file, map->address, map->length, 0, vcompute_region_allocate, &map->region);
}

static long ioctl_register(struct vcompute_file *file, void *argument)
{
	struct vcompute_register *reg = argument;
	u32 flags = 0;

	if (reg->flags & ~VCOMPUTE_REGISTER_READ_ONLY)
		return -EINVAL;
	if (reg->flags & VCOMPUTE_REGISTER_READ_ONLY)
		flags |= VIRTIO_COMPUTE_MAP_READ_ONLY;
	return make_region(file, reg->address, reg->length, flags, vcompute_region_pin, &reg->region);
}

static long ioctl_unmap(struct vcompute_file *file, void *argument)
{
	const struct vcompute_unmap *unmap = argument;
	struct vcompute_session *session = session_of(file);

	if (IS_ERR(session))
		return PTR_ERR(session);
	if (unmap->reserved)
		return -EINVAL;
	return vcompute_region_unmap(session, unmap->region);
}

static long ioctl_kick(struct vcompute_file *file, void *argument)
{
	const struct vcompute_kick *kick = argument;
	struct vcompute_session *session = session_of(file);

	if (IS_ERR(session))
		return PTR_ERR(session);
	if (kick->flags || kick->reserved)
		return -EINVAL;
	return vcompute_control_kick(session);
}

static long ioctl_wait(struct vcompute_file *file, void *argument)
{
	struct vcompute_session *session = session_of(file);

	if (IS_ERR(session))
		return PTR_ERR(session);
	return vcompute_session_wait(session, argument);
}

static long ioctl_status(struct vcompute_file *file, void *argument)
{
	struct vcompute_status *status = argument;

	if (status->reserved)
		return -EINVAL;
	return vcompute_status_get(file->dev, status);
}

/* The process will never hear of the region. */
static void undo_make_region(struct vcompute_file *file, u32 number)
{
	struct vcompute_region *region = vcompute_region_find(file->session, number);

	if (region) {
		vcompute_region_abandon(file->session, region);
		vcompute_region_put(region);
	}
}

static void undo_map(struct vcompute_file *file, const void *argument)
{
	undo_make_region(file, ((const struct vcompute_map *)argument)->region);
}

static void undo_register(struct vcompute_file *file, const void *argument)
{
	undo_make_region(file, ((const struct vcompute_register *)argument)->region);
}

/**
 * struct ioctl - one row of the table of ioctls
 * @call: handles it; its argument is a copy of the process's
 * @undo: takes back what @call has done, when its answer cannot be delivered
 * @answers: the argument is copied back
 * @command: the number
 */
struct ioctl {
	long (*call)(struct vcompute_file *file, void *argument);
	void (*undo)(struct vcompute_file *file, const void *argument);
	bool answers;
	unsigned int command;
};

static const struct ioctl ioctls[] = {
	{ ioctl_info, NULL, true, VCOMPUTE_IOCTL_INFO },
	{ ioctl_session_create, NULL, true, VCOMPUTE_IOCTL_SESSION_CREATE },
	{ ioctl_map, undo_map, true, VCOMPUTE_IOCTL_MAP },
	{ ioctl_unmap, NULL, false, VCOMPUTE_IOCTL_UNMAP },
	{ ioctl_register, undo_register, true, VCOMPUTE_IOCTL_REGISTER },
	{ ioctl_kick, NULL, false, VCOMPUTE_IOCTL_KICK },
	{ ioctl_wait, NULL, false, VCOMPUTE_IOCTL_WAIT },
	{ ioctl_status, NULL, true, VCOMPUTE_IOCTL_STATUS },
};

static const struct ioctl *find_ioctl(unsigned int command)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ioctls); i++) {
		if (ioctls[i].command == command)
			return &ioctls[i];
	}
	return NULL;
}

static long file_ioctl(struct file *opened, unsigned int command, unsigned long argument)
{
	struct vcompute_file *file = opened->private_data;
	const struct ioctl *ioctl = find_ioctl(command);
	void __user *user = (void __user *)argument;
	size_t size = _IOC_SIZE(command);
	union {
		struct vcompute_info info;
		struct vcompute_session_create session_create;
		struct vcompute_map map;
		struct vcompute_unmap unmap;
		struct vcompute_register reg;
		struct vcompute_kick kick;
		struct vcompute_wait wait;
		struct vcompute_status status;
	} copy;
	long error;

	if (!ioctl)
		return -ENOTTY;
	if (copy_from_user(&copy, user, size))
		return -EFAULT;
	error = ioctl->call(file, &copy);
	if (error || !ioctl->answers)
		return error;
	if (copy_to_user(user, &copy, size)) {
		if (ioctl->undo)
			ioctl->undo(file, &copy);
		return -EFAULT;
	}
	return 0;
}

static int file_mmap(struct file *opened, struct vm_area_struct *vma)
{
	const unsigned long first_region = VCOMPUTE_MMAP_REGION >> PAGE_SHIFT;
	const unsigned int shift = VCOMPUTE_MMAP_REGION_SHIFT - PAGE_SHIFT;
	struct vcompute_file *file = opened->private_data;
	struct vcompute_session *session;
	struct vcompute_region *region;
	unsigned long number;
	int error;

	if (vma->vm_pgoff == VCOMPUTE_MMAP_INFO >> PAGE_SHIFT)
		return vcompute_info_mmap(file->dev, vma);
	if (vma->vm_pgoff < first_region)
		return -EINVAL;
	session = session_of(file);
	if (IS_ERR(session))
		return PTR_ERR(session);
	number = (vma->vm_pgoff - first_region) >> shift;
	if (number > VIRTIO_COMPUTE_MAX_REGIONS)
		return -EINVAL;
	region = vcompute_region_find(session, number);
	if (!region)
		return -ENOENT;
	error = region->pages ? vcompute_region_mmap(region, vma) : -ENOENT;
	vcompute_region_put(region);
	return error;
}

static __poll_t file_poll(struct file *opened, poll_table *table)
{
	struct vcompute_file *file = opened->private_data;
	/* A dead session too: whoever polls it is told so. Pairs as above. */
	struct vcompute_session *session = smp_load_acquire(&file->session);

	return session ? vcompute_session_poll(session, opened, table) : EPOLLERR;
}

const struct file_operations vcompute_file_operations = {
	.owner = THIS_MODULE,
	.open = file_open,
	.flush = file_flush,
	.release = file_release,
	.read = file_read,
	.unlocked_ioctl = file_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = file_mmap,
	.poll = file_poll,
};
