// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module parameters; root can change them at any time under
 * /sys/module/vcompute/parameters.
 */
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "driver.h"

static unsigned int max_sessions_per_user = 64;
module_param(max_sessions_per_user, uint, 0644);
MODULE_PARM_DESC(max_sessions_per_user, "sessions of one user at once (default 64)");

static unsigned int max_pinned_percent_per_user = 50;
module_param(max_pinned_percent_per_user, uint, 0644);
MODULE_PARM_DESC(max_pinned_percent_per_user,
		 "percentage of memory that one user's regions may hold (default 50)");

static unsigned int max_pinned_percent = 50;
module_param(max_pinned_percent, uint, 0644);
MODULE_PARM_DESC(max_pinned_percent, "percentage of memory that one device's regions may hold (default 50)");

static unsigned int request_timeout_ms = 30000;
module_param(request_timeout_ms, uint, 0644);
MODULE_PARM_DESC(request_timeout_ms, "longest wait of a process for the device, in milliseconds (default 30000)");

static bool shim = true;

static int shim_get(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%s\n", READ_ONCE(shim) ? "on" : "off");
}

static const struct kernel_param_ops shim_ops = {
	.set = param_set_bool,
	.get = shim_get,
};
module_param_cb(shim, &shim_ops, &shim, 0644);
__MODULE_PARM_TYPE(shim, "on|off");
MODULE_PARM_DESC(shim, "whether the preloaded library does anything before a program calls CUDA (default on)");

static unsigned long percent_of_memory(unsigned int percent)
{
	return totalram_pages() / 100 * min(percent, 100U);
}

/**
 * vcompute_max_sessions_of_user() - limit on the sessions of one user
 *
 * Return: sessions.
 */
unsigned int vcompute_max_sessions_of_user(void)
{
	return READ_ONCE(max_sessions_per_user);
}

/**
 * vcompute_max_pages_of_user() - limit on the memory of one user's regions
 *
 * Return: pages.
 */
unsigned long vcompute_max_pages_of_user(void)
{
	return percent_of_memory(READ_ONCE(max_pinned_percent_per_user));
}

/**
 * vcompute_max_pages_of_device() - limit on the memory of one device's regions
 *
 * Return: pages.
 */
unsigned long vcompute_max_pages_of_device(void)
{
	return percent_of_memory(READ_ONCE(max_pinned_percent));
}

/**
 * vcompute_request_timeout() - longest wait of a process for the device
 *
 * Return: jiffies.
 */
unsigned long vcompute_request_timeout(void)
{
	return msecs_to_jiffies(READ_ONCE(request_timeout_ms));
}

/**
 * vcompute_info_flags() - what the administrator tells every process
 *
 * Return: VCOMPUTE_INFO_*.
 */
u32 vcompute_info_flags(void)
{
	return READ_ONCE(shim) ? 0 : VCOMPUTE_INFO_SHIM_OFF;
}
