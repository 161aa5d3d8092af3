//! Images that another process of the VM has sent: found, and shown to be the guest's own before they are used.
//!
//! What is found may be anything: a worker that its guest has taken over may have deposited it. It is sealed, so it stays
//! what it is, and this worker's secret is younger (docs/adr/0012).

use std::{
    sync::{Arc, PoisonError},
    thread::JoinHandle,
};

use rustix::rand::GetRandomFlags;
use virtio_spec::{
    cuda::CUresult,
    handle::{Handle, Kind},
    image_tag::{self, Secret},
    limits,
    requests::{ImageFind, ImageProof},
};
use zerocopy::IntoBytes as _;

use super::{
    Invocation,
    image::{self, Image},
};
use crate::{
    images::Key,
    worker::{broker, sealed::SealedImage},
};

/// Bytes of an image whose tag is computed at once: a thread takes longer to start.
const QUICK: u64 = 256 << 10;

/// An image that the guest has not been shown to have.
pub(crate) struct Found {
    image: Arc<SealedImage>,
    tag: Tag,
}

enum Tag {
    Known([u64; 2]),
    /// Computed while the guest computes its own.
    Computing(JoinHandle<[u64; 2]>),
}

impl Found {
    /// Bytes of the image.
    pub(super) fn total(&self) -> u64 {
        self.image.bytes().len() as u64
    }

    fn new(image: SealedImage, secret: Secret) -> Self {
        let image = Arc::new(image);
        let compute = {
            let image = Arc::clone(&image);
            move || {
                image.prefault();
                image_tag::tag(image.bytes(), &secret)
            }
        };
        let tag = if image.bytes().len() as u64 <= QUICK {
            Tag::Known(compute())
        } else {
            let thread = std::thread::Builder::new().name("image".to_owned()).spawn(compute);
            // Without a thread, later.
            thread.map_or_else(|_| Tag::Known(image_tag::tag(image.bytes(), &secret)), Tag::Computing)
        };
        Self { image, tag }
    }

    /// The image, if the guest's tag is its own.
    fn proven(self, tag: [u64; 2]) -> Option<Arc<SealedImage>> {
        let own = match self.tag {
            Tag::Known(own) => Some(own),
            Tag::Computing(thread) => thread.join().ok(),
        };
        (own == Some(tag)).then_some(self.image)
    }
}

fn secret() -> Result<Secret, CUresult> {
    let mut secret = Secret::zeroed();
    let bytes = secret.as_mut_bytes();
    let length = bytes.len();
    // Up to 256 bytes come at once whatever happens; more may come in parts.
    let mut done = 0_usize;
    while done < length {
        let rest = bytes.get_mut(done..).ok_or(CUresult::ERROR_OPERATING_SYSTEM)?;
        let got = rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut *rest, GetRandomFlags::empty()));
        done = done.saturating_add(got.map_err(|_| CUresult::ERROR_OPERATING_SYSTEM)?);
    }
    Ok(secret)
}

pub(super) fn find(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: ImageFind = call.structure()?;
    call.end_of_parameters()?;
    let invalid = CUresult::ERROR_INVALID_VALUE;
    Handle::from_u64(request.image).filter(|handle| handle.kind == Kind::Image).ok_or(invalid)?;
    if request.total == 0 || request.total > limits::MAX_IMAGE_BYTES {
        return Err(invalid);
    }
    let key = Key { total: request.total, sample: request.sample };
    let candidate = broker::find_image(key)?.and_then(|file| SealedImage::import(file, key.total));
    let session = call.session();
    let mut images = session.images.lock().unwrap_or_else(PoisonError::into_inner);
    images.remove(&request.image);
    image::check_room(&images, request.total)?;
    let unproven = images.values().filter(|image| matches!(image, Image::Found(_))).count();
    let Some(candidate) = candidate.filter(|_| unproven < limits::MAX_FOUND_IMAGES) else {
        return Err(CUresult::ERROR_NOT_FOUND);
    };
    let secret = secret()?;
    images.insert(request.image, Image::Found(Found::new(candidate, secret)));
    drop(images);
    call.put(&secret)
}

pub(super) fn prove(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: ImageProof = call.structure()?;
    call.end_of_parameters()?;
    let session = call.session();
    let lock = || session.images.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(Image::Found(found)) = lock().remove(&request.image) else {
        return Err(CUresult::ERROR_INVALID_VALUE);
    };
    let image = call.in_driver(|| found.proven(request.tag)).ok_or(CUresult::ERROR_NOT_FOUND)?;
    lock().insert(request.image, Image::Shared(image));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's own data")]
mod tests {
    use super::*;
    use crate::worker::sealed::tests::sealed;

    #[test]
    fn only_who_has_the_image_is_given_it() {
        for length in [1000, QUICK + 1] {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.to_le_bytes()[0]).collect();
            let mut other = bytes.clone();
            other[700] ^= 1;
            let found = |secret| Found::new(sealed(&bytes), secret);
            let one = secret().unwrap();
            assert_eq!(found(one).proven(image_tag::tag(&bytes, &one)).unwrap().bytes(), bytes);
            assert!(found(one).proven(image_tag::tag(&other, &one)).is_none(), "another image");
            let earlier = image_tag::tag(&bytes, &secret().unwrap());
            assert!(found(one).proven(earlier).is_none(), "a tag under another secret");
            assert!(found(one).proven([0; 2]).is_none());
        }
    }

    #[test]
    fn secrets_are_drawn_whole_and_anew() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert_ne!(one.block, other.block);
        assert_ne!(one.point, other.point);
        assert_ne!(one.point, [0; 2], "the end is drawn, too");
    }
}
