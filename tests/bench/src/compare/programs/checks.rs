//! Whether both sides computed the same.

use super::process::Done;

/// Whether the results are the same to the bit; an error if they differ by more than the program allows.
pub(super) fn compare(native: &Done, remoted: &Done) -> Result<bool, String> {
    let (left, right) = (&native.values, &remoted.values);
    if left.is_empty() || left.len() != right.len() {
        return Err(format!(
            "natively it has {} results, and through the device {}",
            left.len(),
            right.len()
        ));
    }
    if native.series.samples.is_empty() || native.series.samples.len() != remoted.series.samples.len() {
        return Err("the sides have different numbers of samples".to_owned());
    }
    #[allow(clippy::float_cmp, reason = "the same to the bit is meant")]
    let is_equal = |(left, right): &(&f64, &f64)| left == right;
    for (place, (left, right)) in left.iter().zip(right).enumerate().filter(|(_, pair)| !is_equal(pair)) {
        let allowed = native.tolerance * left.abs().max(right.abs());
        // A NaN is not within any distance.
        let is_within = (left - right).abs() <= allowed;
        if !is_within {
            return Err(format!("result {place} is {left} natively, and {right} through the device"));
        }
    }
    Ok(left.iter().zip(right).all(|pair| is_equal(&pair)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Series, Unit};

    fn done(values: &[f64], tolerance: f64) -> Done {
        Done {
            series: Series::new("part", Unit::PerSecond, vec![1.0]),
            values: values.to_vec(),
            tolerance,
            amount: 1.0,
            processor: 0.0,
            about: None,
        }
    }

    #[test]
    fn results_may_differ_by_the_tolerance_and_are_known_to_differ() {
        let (left, right) = (done(&[1.0, 100.0], 1e-2), done(&[1.0, 100.5], 1e-2));
        assert_eq!(compare(&left, &left), Ok(true));
        assert_eq!(compare(&left, &right), Ok(false));
        let exact = done(&[1.0, 100.0], 0.0);
        assert!(compare(&exact, &right).is_err());
    }

    #[test]
    fn what_is_missing_or_not_a_number_differs() {
        let two = done(&[1.0, 2.0], 1.0);
        assert!(compare(&two, &done(&[1.0], 1.0)).is_err());
        assert!(compare(&done(&[], 1.0), &done(&[], 1.0)).is_err());
        assert!(compare(&done(&[f64::NAN], 1.0), &done(&[f64::NAN], 1.0)).is_err());
        let mut more = two.clone();
        more.series.samples.push(1.0);
        assert!(compare(&two, &more).is_err());
    }
}
