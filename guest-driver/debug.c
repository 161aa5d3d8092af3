// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/virtio_compute: what the module holds (counts), and for
 * each device what it is doing. Tests read counts to see that nothing leaks.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "driver.h"

static struct dentry *root;

static int counts_show(struct seq_file *file, void *unused)
{
	seq_printf(file, "devices %d\n", atomic_read(&vcompute_counts.devices));
	seq_printf(file, "files %d\n", atomic_read(&vcompute_counts.files));
	seq_printf(file, "sessions %d\n", atomic_read(&vcompute_counts.sessions));
	seq_printf(file, "regions %d\n", atomic_read(&vcompute_counts.regions));
	seq_printf(file, "requests %d\n", atomic_read(&vcompute_counts.requests));
	seq_printf(file, "users %d\n", atomic_read(&vcompute_counts.users));
	seq_printf(file, "own_pages %ld\n", atomic_long_read(&vcompute_counts.own_pages));
	seq_printf(file, "pinned_pages %ld\n", atomic_long_read(&vcompute_counts.pinned_pages));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counts);

static const char *state_name(enum vcompute_session_state state)
{
	switch (state) {
	case SESSION_CREATING:
		return "creating";
	case SESSION_LIVE:
		return "live";
	case SESSION_CLOSING:
		return "closing";
	case SESSION_QUARANTINED:
		return "quarantined";
	case SESSION_ENDED:
		return "ended";
	}
	return "?";
}

static int device_show(struct seq_file *file, void *unused)
{
	struct vcompute_device *dev = file->private;
	struct vcompute_session *session;

	seq_printf(file, "state %u\n", READ_ONCE(dev->state));
	seq_printf(file, "broken %d\n", READ_ONCE(dev->control.broken));
	seq_printf(file, "events %lld\n", atomic64_read(&dev->events));
	seq_printf(file, "kicks %lld\n", atomic64_read(&dev->kicks));
	seq_printf(file, "kicks_joined %lld\n", atomic64_read(&dev->kicks_joined));
	seq_printf(file, "charged_sessions %u\n", READ_ONCE(dev->account.sessions));
	seq_printf(file, "charged_pages %llu\n", READ_ONCE(dev->account.pages));
	spin_lock_irq(&dev->sessions_lock);
	list_for_each_entry(session, &dev->sessions, node)
		seq_printf(file, "session %u %s%s\n", session->number, state_name(READ_ONCE(session->state)),
			   READ_ONCE(session->dead) ? " dead" : "");
	spin_unlock_irq(&dev->sessions_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(device);

/**
 * vcompute_debug_init() - make the module's directory
 */
void vcompute_debug_init(void)
{
	root = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("counts", 0400, root, NULL, &counts_fops);
}

/**
 * vcompute_debug_exit() - remove the module's directory
 */
void vcompute_debug_exit(void)
{
	debugfs_remove_recursive(root);
}

/**
 * vcompute_debug_add() - make a device's file
 * @dev: the device
 */
void vcompute_debug_add(struct vcompute_device *dev)
{
	dev->debug = debugfs_create_file(dev->misc.name, 0400, root, dev, &device_fops);
}

/**
 * vcompute_debug_remove() - remove a device's file; no reader is left
 * @dev: the device
 */
void vcompute_debug_remove(struct vcompute_device *dev)
{
	debugfs_remove(dev->debug);
}
