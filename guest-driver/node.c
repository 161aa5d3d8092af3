// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/vcompute0: a character device of a class of our own.
 *
 * Not a misc device: opening one of those takes a mutex that all of them share
 * and that is held while another driver's open runs, for as long as that takes.
 * Every process of the guest opens this node at its start.
 *
 * The node's device holds the vcompute_device; the cdev holds the node's device
 * while the node can be opened, and for as long as somebody is opening it.
 */
#include <linux/idr.h>
#include <linux/module.h>

#include "compat.h"
#include "driver.h"

#define MAX_DEVICES	64

static dev_t first;
static DEFINE_IDA(indices);

/* The udev rule opens it to a group; without udev it is root's. */
static char *devnode(VCOMPUTE_NODE *node, umode_t *mode)
{
	if (mode)
		*mode = 0660;
	return NULL;
}

static struct class class = {
	.name = KBUILD_MODNAME,
	.devnode = devnode,
};

/**
 * vcompute_nodes_init() - reserve numbers and make the class
 *
 * Return: 0 or a negative error.
 */
int vcompute_nodes_init(void)
{
	int error = alloc_chrdev_region(&first, 0, MAX_DEVICES, KBUILD_MODNAME);

	if (error)
		return error;
	error = class_register(&class);
	if (error)
		unregister_chrdev_region(first, MAX_DEVICES);
	return error;
}

/**
 * vcompute_nodes_exit() - give class and numbers back; there is no device any more
 */
void vcompute_nodes_exit(void)
{
	class_unregister(&class);
	unregister_chrdev_region(first, MAX_DEVICES);
	ida_destroy(&indices);
}

static void node_release(struct device *node)
{
	vcompute_device_put(container_of(node, struct vcompute_device, node));
}

/**
 * vcompute_node_new() - give a device its name and number
 * @dev: the device, with its virtio device
 *
 * Return: 0 or a negative error; then there is nothing to undo.
 */
int vcompute_node_new(struct vcompute_device *dev)
{
	int error;

	dev->index = ida_alloc_max(&indices, MAX_DEVICES - 1, GFP_KERNEL);
	if (dev->index < 0)
		return dev->index;
	device_initialize(&dev->node);
	vcompute_device_get(dev);
	dev->node.class = &class;
	dev->node.devt = MKDEV(MAJOR(first), MINOR(first) + dev->index);
	dev->node.parent = &dev->vdev->dev;
	dev->node.release = node_release;
	cdev_init(&dev->cdev, &vcompute_file_operations);
	dev->cdev.owner = THIS_MODULE;
	error = dev_set_name(&dev->node, KBUILD_MODNAME "%d", dev->index);
	if (error)
		vcompute_node_put(dev);
	return error;
}

/**
 * vcompute_node_add() - let processes open the device
 * @dev: the device
 *
 * Return: 0 or a negative error.
 */
int vcompute_node_add(struct vcompute_device *dev)
{
	return cdev_device_add(&dev->cdev, &dev->node);
}

/**
 * vcompute_node_remove() - let no more processes open the device
 * @dev: the device
 */
void vcompute_node_remove(struct vcompute_device *dev)
{
	cdev_device_del(&dev->cdev, &dev->node);
}

/**
 * vcompute_node_put() - the device needs its node no more
 * @dev: the device
 *
 * Its number is free for the next, also while somebody has the old node open.
 */
void vcompute_node_put(struct vcompute_device *dev)
{
	ida_free(&indices, dev->index);
	put_device(&dev->node);
}
