// SPDX-License-Identifier: GPL-2.0-only
/*
 * REGISTER: a process's own pages as a region.
 *
 * RLIMIT_MEMLOCK does not apply, as it does not for NVIDIA's own driver: its
 * usual 8 MiB would break every program that pins memory. account.c bounds it.
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "driver.h"

/* Pages in one call, so that a signal is seen soon. */
#define PAGES_AT_ONCE	16384

/* What the mappings of the range allow. */
struct access {
	bool read_only;	/* some page cannot be written */
	bool private;	/* some page that cannot be written is the process's own copy once it can */
};

static int look_at_mappings(u64 address, u64 end, struct access *access)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int error = 0;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	while (address < end) {
		vma = find_vma(mm, address);
		if (!vma || vma->vm_start > address) {
			error = -EFAULT;
			break;
		}
		if (!(vma->vm_flags & VM_WRITE)) {
			access->read_only = true;
			access->private |= !(vma->vm_flags & VM_SHARED);
		}
		address = vma->vm_end;
	}
	mmap_read_unlock(mm);
	return error;
}

/*
 * FOLL_WRITE wherever the device may write: it breaks copy-on-write now, so
 * that the process keeps seeing the pinned pages.
 */
static int pin_flags(struct vcompute_region *region, unsigned int *flags)
{
	struct access access = {};
	int error;

	error = look_at_mappings(region->address, region->address + ((u64)region->page_count << PAGE_SHIFT),
				 &access);
	if (error)
		return error;
	if (access.read_only)
		region->flags |= VIRTIO_COMPUTE_MAP_READ_ONLY;
	*flags = FOLL_LONGTERM;
	if (!access.read_only)
		*flags |= FOLL_WRITE; /* also if registered read-only: the process may write */
	else if (access.private)
		*flags |= VCOMPUTE_PIN_PRIVATE_READ_ONLY;
	return 0;
}

static int pin_all(struct vcompute_region *region, unsigned int flags, struct page **pages)
{
	unsigned long done = 0;
	long count = 0;

	while (done < region->page_count) {
		if (fatal_signal_pending(current)) {
			count = -EINTR;
			break;
		}
		count = pin_user_pages_fast(region->address + ((u64)done << PAGE_SHIFT),
					    min(region->page_count - done, (unsigned long)PAGES_AT_ONCE),
					    flags, pages + done);
		if (count <= 0)
			break;
		done += count;
		cond_resched();
	}
	if (done == region->page_count)
		return 0;
	unpin_user_pages(pages, done);
	return count < 0 ? count : -EFAULT;
}

/**
 * vcompute_region_pin() - pin the caller's pages at the region's address
 * @region: the region, new, with its flags
 *
 * Context: process.
 * Return: 0 or a negative error.
 */
int vcompute_region_pin(struct vcompute_region *region)
{
	struct page **pages;
	unsigned int flags;
	int error;

	error = pin_flags(region, &flags);
	if (error)
		return error;
	pages = kvcalloc(region->page_count, sizeof(*pages), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!pages)
		return -ENOMEM;
	error = pin_all(region, flags, pages);
	/* A read-only shared mapping may let itself be registered for reading where writing is refused. */
	if (error == -EFAULT && flags & FOLL_WRITE && region->flags & VIRTIO_COMPUTE_MAP_READ_ONLY)
		error = pin_all(region, FOLL_LONGTERM, pages);
	if (error)
		goto free;
	error = vcompute_region_set_extents(region, pages);
	if (error) {
		unpin_user_pages(pages, region->page_count);
		goto free;
	}
	region->pinned = true;
	atomic_long_add(region->page_count, &vcompute_counts.pinned_pages);
free:
	kvfree(pages);
	return error;
}

/**
 * vcompute_region_unpin() - give the pages back to their process
 * @region: the region, pinned
 *
 * Context: process.
 */
void vcompute_region_unpin(struct vcompute_region *region)
{
	bool dirty = !(region->flags & VIRTIO_COMPUTE_MAP_READ_ONLY);
	u32 i;

	for (i = 0; i < region->extent_count; i++) {
		const struct virtio_compute_extent *extent = &region->extents[i];

		unpin_user_page_range_dirty_lock(pfn_to_page(PHYS_PFN(le64_to_cpu(extent->address))),
						 le64_to_cpu(extent->length) >> PAGE_SHIFT, dirty);
		cond_resched();
	}
	atomic_long_sub(region->page_count, &vcompute_counts.pinned_pages);
}
