// SPDX-License-Identifier: GPL-2.0-only
/*
 * What users and devices hold, against the limits in params.c.
 *
 * A process's memory cgroup is charged too, but unprivileged users need not be
 * in one that is bounded, and pinned pages of a process are charged to nobody.
 */
#include <linux/slab.h>

#include "driver.h"

/**
 * struct vcompute_user - a user who has sessions
 * @node: on users
 * @references: sessions and regions that name it
 * @uid: who
 * @sessions: how many
 * @pages: of all its regions, on all devices
 */
struct vcompute_user {
	struct list_head node;
	unsigned int references;
	kuid_t uid;
	u32 sessions;
	u64 pages;
};

static DEFINE_SPINLOCK(accounts_lock);
static LIST_HEAD(users);

static struct vcompute_user *find(kuid_t uid)
{
	struct vcompute_user *user;

	list_for_each_entry(user, &users, node) {
		if (uid_eq(user->uid, uid))
			return user;
	}
	return NULL;
}

/**
 * vcompute_user_find() - the account of a user
 * @uid: who
 *
 * Context: may sleep.
 * Return: the account with a reference, or NULL without memory.
 */
struct vcompute_user *vcompute_user_find(kuid_t uid)
{
	struct vcompute_user *new = kzalloc(sizeof(*new), GFP_KERNEL), *user;

	if (!new)
		return NULL;
	spin_lock(&accounts_lock);
	user = find(uid);
	if (!user) {
		user = new;
		new = NULL;
		user->uid = uid;
		list_add(&user->node, &users);
		atomic_inc(&vcompute_counts.users);
	}
	user->references++;
	spin_unlock(&accounts_lock);
	kfree(new);
	return user;
}

/**
 * vcompute_user_get() - take a reference
 * @user: the account
 */
void vcompute_user_get(struct vcompute_user *user)
{
	spin_lock(&accounts_lock);
	user->references++;
	spin_unlock(&accounts_lock);
}

/**
 * vcompute_user_put() - drop a reference
 * @user: the account
 *
 * Context: process.
 */
void vcompute_user_put(struct vcompute_user *user)
{
	spin_lock(&accounts_lock);
	if (--user->references) {
		user = NULL;
	} else {
		list_del(&user->node);
		atomic_dec(&vcompute_counts.users);
	}
	spin_unlock(&accounts_lock);
	kfree(user);
}

/**
 * vcompute_charge_session() - count one more session
 * @dev: where
 * @user: whose
 *
 * Context: process.
 * Return: 0, -EDQUOT (the user's limit) or -ENOSPC (the device's).
 */
int vcompute_charge_session(struct vcompute_device *dev, struct vcompute_user *user)
{
	int error = 0;

	spin_lock(&accounts_lock);
	if (user->sessions >= vcompute_max_sessions_of_user()) {
		error = -EDQUOT;
	} else if (dev->account.sessions >= dev->max_sessions) {
		error = -ENOSPC;
	} else {
		user->sessions++;
		dev->account.sessions++;
	}
	spin_unlock(&accounts_lock);
	return error;
}

/**
 * vcompute_uncharge_session() - count one session less
 * @dev: where
 * @user: whose
 *
 * Context: process.
 */
void vcompute_uncharge_session(struct vcompute_device *dev, struct vcompute_user *user)
{
	spin_lock(&accounts_lock);
	user->sessions--;
	dev->account.sessions--;
	spin_unlock(&accounts_lock);
}

/**
 * vcompute_charge_pages() - count more pages
 * @dev: where
 * @user: whose
 * @pages: how many
 *
 * Context: process.
 * Return: 0, -EDQUOT (the user's limit) or -ENOSPC (the device's).
 */
int vcompute_charge_pages(struct vcompute_device *dev, struct vcompute_user *user, unsigned long pages)
{
	int error = 0;

	spin_lock(&accounts_lock);
	if (user->pages + pages > vcompute_max_pages_of_user()) {
		error = -EDQUOT;
	} else if (dev->account.pages + pages > vcompute_max_pages_of_device()) {
		error = -ENOSPC;
	} else {
		user->pages += pages;
		dev->account.pages += pages;
	}
	spin_unlock(&accounts_lock);
	return error;
}

/**
 * vcompute_uncharge_pages() - count fewer pages
 * @dev: where
 * @user: whose
 * @pages: how many
 *
 * Context: process.
 */
void vcompute_uncharge_pages(struct vcompute_device *dev, struct vcompute_user *user, unsigned long pages)
{
	spin_lock(&accounts_lock);
	user->pages -= pages;
	dev->account.pages -= pages;
	spin_unlock(&accounts_lock);
}
