// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions: memory that a session shares with the device, and its mappings.
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "driver.h"

/* 2 MiB: beyond it, contiguous memory makes nothing faster. */
#define LARGEST_ORDER	9

/*
 * Charged to the caller's memory cgroup. Rather than stall the guest, or have
 * it kill a process, an allocation fails.
 */
#define REGION_GFP	(GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NORETRY | __GFP_NOWARN)

/* Page offsets of mmap() within one region. */
#define REGION_PAGE_MASK ((1UL << (VCOMPUTE_MMAP_REGION_SHIFT - PAGE_SHIFT)) - 1)

/**
 * vcompute_region_new() - make a region without memory, and charge it
 * @dev: the device
 * @user: who pays
 * @address: in the process; 0 for the first region
 * @length: bytes
 *
 * Context: may sleep.
 * Return: the region with a reference, or an error pointer.
 */
struct vcompute_region *vcompute_region_new(struct vcompute_device *dev, struct vcompute_user *user,
					    u64 address, u64 length)
{
	struct vcompute_region *region;
	int error;

	if (!length || !PAGE_ALIGNED(length) || length > 1ULL << VCOMPUTE_MMAP_REGION_SHIFT)
		return ERR_PTR(-EINVAL);
	if (!PAGE_ALIGNED(address) || address >= TASK_SIZE || length > TASK_SIZE - address)
		return ERR_PTR(-EINVAL);
	region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	if (!region)
		return ERR_PTR(-ENOMEM);
	region->page_count = length >> PAGE_SHIFT;
	error = vcompute_charge_pages(dev, user, region->page_count);
	if (error) {
		kfree(region);
		return ERR_PTR(error);
	}
	kref_init(&region->ref);
	vcompute_device_get(dev);
	region->dev = dev;
	vcompute_user_get(user);
	region->user = user;
	region->address = address;
	INIT_LIST_HEAD(&region->messages);
	atomic_inc(&vcompute_counts.regions);
	return region;
}

/**
 * vcompute_region_allocate() - give a new region zeroed pages of its own
 * @region: the region
 *
 * Context: may sleep.
 * Return: 0, -ENOMEM or -EINTR.
 */
int vcompute_region_allocate(struct vcompute_region *region)
{
	unsigned int order = LARGEST_ORDER;
	unsigned long count = 0;

	region->pages = kvcalloc(region->page_count, sizeof(*region->pages),
				 GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!region->pages)
		return -ENOMEM;
	while (count < region->page_count) {
		struct page *page;
		unsigned long i;

		if (fatal_signal_pending(current))
			return -EINTR;
		while (1UL << order > region->page_count - count)
			order--;
		page = alloc_pages(REGION_GFP, order);
		if (!page) {
			if (!order)
				return -ENOMEM;
			order--;
			continue;
		}
		/* Each page is counted by itself, as vm_insert_pages() and O_DIRECT need it. */
		split_page(page, order);
		for (i = 0; i < 1UL << order; i++)
			region->pages[count++] = page + i;
		atomic_long_add(1L << order, &vcompute_counts.own_pages);
		cond_resched();
	}
	return vcompute_region_set_extents(region, region->pages);
}

/* Counts the contiguous pieces, and notes them if told to. */
static u32 each_extent(struct vcompute_region *region, struct page **pages, bool store)
{
	unsigned long first, next;
	u32 count = 0;

	for (first = 0; first < region->page_count; first = next) {
		phys_addr_t address = page_to_phys(pages[first]);

		for (next = first + 1; next < region->page_count; next++) {
			if (page_to_phys(pages[next]) != address + ((next - first) << PAGE_SHIFT))
				break;
		}
		if (store) {
			region->extents[count].address = cpu_to_le64(address);
			region->extents[count].length = cpu_to_le64((next - first) << PAGE_SHIFT);
		}
		count++;
	}
	return count;
}

/**
 * vcompute_region_set_extents() - note a region's pages as contiguous pieces
 * @region: the region
 * @pages: its pages
 *
 * Context: may sleep.
 * Return: 0, -ENOMEM, or -E2BIG if there are more than the device takes.
 */
int vcompute_region_set_extents(struct vcompute_region *region, struct page **pages)
{
	u32 count = each_extent(region, pages, false);

	if (count > region->dev->max_extents)
		return -E2BIG;
	region->extents = kvcalloc(count, sizeof(*region->extents), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!region->extents)
		return -ENOMEM;
	region->extent_count = each_extent(region, pages, true);
	return 0;
}

static void free_pages_of(struct vcompute_region *region)
{
	unsigned long i;

	if (!region->pages)
		return;
	for (i = 0; i < region->page_count && region->pages[i]; i++) {
		put_page(region->pages[i]);
		if (i % 1024 == 0)
			cond_resched();
	}
	atomic_long_sub(i, &vcompute_counts.own_pages);
	kvfree(region->pages);
}

static void region_release(struct kref *ref)
{
	struct vcompute_region *region = container_of(ref, struct vcompute_region, ref);
	struct vcompute_request *request, *next;

	list_for_each_entry_safe(request, next, &region->messages, node) {
		list_del_init(&request->node);
		vcompute_request_put(request);
	}
	vcompute_request_put(region->unmap);
	if (region->pinned)
		vcompute_region_unpin(region);
	free_pages_of(region);
	kvfree(region->extents);
	vcompute_uncharge_pages(region->dev, region->user, region->page_count);
	vcompute_user_put(region->user);
	vcompute_device_put(region->dev);
	kfree(region);
	atomic_dec(&vcompute_counts.regions);
}

/**
 * vcompute_region_get() - take a reference
 * @region: the region
 *
 * Context: any.
 */
void vcompute_region_get(struct vcompute_region *region)
{
	kref_get(&region->ref);
}

/**
 * vcompute_region_put() - drop a reference; the last one frees or unpins the pages
 * @region: the region
 *
 * Context: process.
 */
void vcompute_region_put(struct vcompute_region *region)
{
	kref_put(&region->ref, region_release);
}

static void vma_open(struct vm_area_struct *vma)
{
	vcompute_region_get(vma->vm_private_data);
}

static void vma_close(struct vm_area_struct *vma)
{
	vcompute_region_put(vma->vm_private_data);
}

/* Pages are there from the start; this brings back what MADV_DONTNEED took away. */
static vm_fault_t vma_fault(struct vm_fault *fault)
{
	struct vcompute_region *region = fault->vma->vm_private_data;
	unsigned long index = fault->pgoff & REGION_PAGE_MASK;

	if (index >= region->page_count)
		return VM_FAULT_SIGBUS;
	fault->page = region->pages[index];
	get_page(fault->page);
	return 0;
}

static const struct vm_operations_struct region_vm_operations = {
	.open = vma_open,
	.close = vma_close,
	.fault = vma_fault,
};

/**
 * vcompute_region_mmap() - map a region's own pages
 * @region: the region
 * @vma: the mapping; the page offset's lower bits are the first page
 *
 * The mapping keeps the region, and so its charge, until it is gone. A child
 * inherits mappings of regions made by MAP, as it inherits any shared memory,
 * but not session memory: its lanes are the parent's.
 *
 * Context: process, with mmap_lock held for writing.
 * Return: 0 or a negative error.
 */
int vcompute_region_mmap(struct vcompute_region *region, struct vm_area_struct *vma)
{
	unsigned long first = vma->vm_pgoff & REGION_PAGE_MASK;
	unsigned long count = vma_pages(vma);
	int error;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (first >= region->page_count || count > region->page_count - first)
		return -EINVAL;
	vm_flags_mod(vma, VM_DONTEXPAND | VM_MIXEDMAP | (region->number ? 0 : VM_DONTCOPY | VM_DONTDUMP), 0);
	error = vm_insert_pages(vma, vma->vm_start, region->pages + first, &count);
	if (error)
		return error;
	vcompute_region_get(region);
	vma->vm_private_data = region;
	vma->vm_ops = &region_vm_operations;
	return 0;
}
