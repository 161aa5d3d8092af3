// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/vcompute: what the module holds (counts), and for
 * each device a directory with what it is doing (state) and a way to hold its
 * locks (hold). Tests read counts to see that nothing leaks, and write to hold
 * to see who waits for a lock.
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

/* A processor spins for this long with interrupts off; the kernel's watchdogs bark at ten seconds. */
#define LONGEST_HOLD_MS	5000

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

static int state_show(struct seq_file *file, void *unused)
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
DEFINE_SHOW_ATTRIBUTE(state);

static spinlock_t *lock_by_name(struct vcompute_device *dev, const char *name)
{
	if (!strcmp(name, "control"))
		return &dev->control.lock;
	if (!strcmp(name, "event"))
		return &dev->event.lock;
	if (!strcmp(name, "sessions"))
		return &dev->sessions_lock;
	if (!strcmp(name, "info"))
		return &dev->info_lock;
	return NULL;
}

/*
 * Delays are loops that are calibrated at boot, and too short where the machine
 * was busy then; so the clock decides, and the number of delays only bounds it.
 */
static void hold(unsigned int milliseconds)
{
	ktime_t end = ktime_add_ms(ktime_get(), milliseconds);
	unsigned int delays = 100 * milliseconds;

	while (delays-- && ktime_before(ktime_get(), end))
		udelay(100);
}

/* "control 200" holds control.lock for 200 ms. */
static ssize_t hold_write(struct file *file, const char __user *user, size_t size, loff_t *offset)
{
	struct vcompute_device *dev = file->private_data;
	unsigned int milliseconds;
	char text[32], name[16];
	spinlock_t *lock;

	if (size >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, size))
		return -EFAULT;
	text[size] = '\0';
	if (sscanf(text, "%15s %u", name, &milliseconds) != 2 || milliseconds > LONGEST_HOLD_MS)
		return -EINVAL;
	lock = lock_by_name(dev, name);
	if (!lock)
		return -EINVAL;
	spin_lock_irq(lock);
	hold(milliseconds);
	spin_unlock_irq(lock);
	return size;
}

static const struct file_operations hold_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = hold_write,
};

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
 * vcompute_debug_add() - make a device's directory
 * @dev: the device
 */
void vcompute_debug_add(struct vcompute_device *dev)
{
	dev->debug = debugfs_create_dir(dev_name(&dev->node), root);
	debugfs_create_file("state", 0400, dev->debug, dev, &state_fops);
	debugfs_create_file("hold", 0200, dev->debug, dev, &hold_fops);
}

/**
 * vcompute_debug_remove() - remove a device's directory; nobody is in its files any more
 * @dev: the device
 */
void vcompute_debug_remove(struct vcompute_device *dev)
{
	debugfs_remove_recursive(dev->debug);
}
