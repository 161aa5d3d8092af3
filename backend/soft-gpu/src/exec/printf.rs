//! `printf` in kernels: formats a buffer of packed arguments by CUDA's rules.
//!
//! Arguments lie one after another, each aligned to its size: 4 bytes for `int`, 8 for `long long`,
//! `double` and pointers. Memory is read through a closure, because it may be of any kind.

use super::warp::Trouble;

/// Longest text of a format or a string argument.
const TEXT_LIMIT: usize = 64 << 10;
/// Widest field and most digits.
const FIELD_LIMIT: usize = 1024;
/// CUDA passes at most 32 arguments.
const ARGUMENT_LIMIT: u32 = 32;

/// What a call printed.
pub(super) struct Printed {
    pub(super) bytes: Vec<u8>,
    /// Arguments that the format used: what the call returns.
    pub(super) arguments: u32,
}

type Read<'r> = dyn FnMut(u64, u8) -> Result<u64, Trouble> + 'r;

/// A NUL-terminated text.
pub(super) fn text(read: &mut Read<'_>, at: u64) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    while bytes.len() < TEXT_LIMIT {
        let [byte, ..] = read(at.wrapping_add(u64::try_from(bytes.len()).unwrap_or(0)), 1)?.to_le_bytes();
        if byte == 0 {
            break;
        }
        bytes.push(byte);
    }
    Ok(bytes)
}

/// The packed arguments, read in order.
struct Arguments<'a, 'r> {
    read: &'a mut Read<'r>,
    at: u64,
    count: u32,
}

impl Arguments<'_, '_> {
    fn next(&mut self, width: u8) -> Result<u64, Trouble> {
        if self.count >= ARGUMENT_LIMIT || self.at == 0 {
            return Ok(0);
        }
        self.count += 1;
        let at = self.at.wrapping_add(u64::from(width) - 1) & !(u64::from(width) - 1);
        let value = (self.read)(at, width)?;
        self.at = at.wrapping_add(u64::from(width));
        Ok(value)
    }
}

/// One conversion of a format.
#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    long: bool,
    half: u8,
}

/// Formats.
pub(super) fn format(
    mut read: impl FnMut(u64, u8) -> Result<u64, Trouble>,
    format: u64,
    arguments: u64,
) -> Result<Printed, Trouble> {
    let pattern = text(&mut read, format)?;
    let mut arguments = Arguments { read: &mut read, at: arguments, count: 0 };
    let mut out = Vec::new();
    let mut rest = pattern.as_slice();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let start = tail;
        let spec = spec(&mut rest, &mut arguments)?;
        let Some((&conversion, tail)) = rest.split_first() else {
            out.push(b'%');
            out.extend_from_slice(start);
            break;
        };
        rest = tail;
        convert(&spec, conversion, &mut arguments, &mut out)?;
    }
    Ok(Printed { bytes: out, arguments: arguments.count })
}

fn eat(rest: &mut &[u8], wanted: u8) -> bool {
    match rest.split_first() {
        Some((&found, tail)) if found == wanted => {
            *rest = tail;
            true
        }
        _ => false,
    }
}

fn number(rest: &mut &[u8]) -> usize {
    let mut value = 0usize;
    while let Some((&digit @ b'0'..=b'9', tail)) = rest.split_first() {
        value = value.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
        *rest = tail;
    }
    value.min(FIELD_LIMIT)
}

fn signed(value: u64) -> i32 {
    i32::from_le_bytes([0, 1, 2, 3].map(|index: usize| value.to_le_bytes()[index]))
}

fn spec(rest: &mut &[u8], arguments: &mut Arguments<'_, '_>) -> Result<Spec, Trouble> {
    let mut spec = Spec::default();
    loop {
        match () {
            () if eat(rest, b'-') => spec.minus = true,
            () if eat(rest, b'+') => spec.plus = true,
            () if eat(rest, b' ') => spec.space = true,
            () if eat(rest, b'#') => spec.alternate = true,
            () if eat(rest, b'0') => spec.zero = true,
            () => break,
        }
    }
    if eat(rest, b'*') {
        let width = signed(arguments.next(4)?);
        spec.minus |= width < 0;
        spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(0).min(FIELD_LIMIT);
    } else {
        spec.width = number(rest);
    }
    if eat(rest, b'.') {
        spec.precision = if eat(rest, b'*') {
            usize::try_from(signed(arguments.next(4)?)).ok().map(|digits| digits.min(FIELD_LIMIT))
        } else {
            Some(number(rest))
        };
    }
    loop {
        match () {
            () if eat(rest, b'l') || eat(rest, b'j') || eat(rest, b'z') || eat(rest, b't') => {
                spec.long = true
            }
            () if eat(rest, b'h') => spec.half = spec.half.saturating_add(1),
            () => break,
        }
    }
    Ok(spec)
}

fn convert(
    spec: &Spec,
    conversion: u8,
    arguments: &mut Arguments<'_, '_>,
    out: &mut Vec<u8>,
) -> Result<(), Trouble> {
    let width = if spec.long { 8 } else { 4 };
    match conversion {
        b'%' => out.push(b'%'),
        b'd' | b'i' => {
            let value = arguments.next(width)?;
            let value = match (spec.long, spec.half) {
                (true, _) => value.cast_signed(),
                (_, 0) => i64::from(signed(value)),
                (_, 1) => i64::from(i16::from_le_bytes([value.to_le_bytes()[0], value.to_le_bytes()[1]])),
                _ => i64::from(i8::from_le_bytes([value.to_le_bytes()[0]])),
            };
            let sign = sign(value < 0, spec);
            integer(spec, sign, value.unsigned_abs().to_string(), out);
        }
        b'u' | b'o' | b'x' | b'X' => {
            let value = arguments.next(width)?;
            let value = match (spec.long, spec.half) {
                (false, 1) => value & 0xffff,
                (false, 2..) => value & 0xff,
                _ => value,
            };
            let (prefix, digits) = match conversion {
                b'u' => ("", value.to_string()),
                b'o' => (if spec.alternate { "0" } else { "" }, format!("{value:o}")),
                b'x' => (if spec.alternate && value != 0 { "0x" } else { "" }, format!("{value:x}")),
                _ => (if spec.alternate && value != 0 { "0X" } else { "" }, format!("{value:X}")),
            };
            integer(spec, prefix, digits, out);
        }
        b'p' => {
            let value = arguments.next(8)?;
            let shown = if value == 0 { "(nil)".to_owned() } else { format!("{value:#x}") };
            pad(spec, "", shown.as_bytes(), false, out);
        }
        b'c' => {
            let [byte, ..] = arguments.next(4)?.to_le_bytes();
            pad(spec, "", &[byte], false, out);
        }
        b's' => {
            let at = arguments.next(8)?;
            let mut shown = if at == 0 { b"(null)".to_vec() } else { text(arguments.read, at)? };
            shown.truncate(spec.precision.unwrap_or(usize::MAX));
            pad(spec, "", &shown, false, out);
        }
        b'f' | b'F' | b'e' | b'E' | b'g' | b'G' | b'a' | b'A' => {
            let value = f64::from_bits(arguments.next(8)?);
            let sign = sign(value.is_sign_negative(), spec);
            let digits = float(value.abs(), conversion.to_ascii_lowercase(), spec);
            let digits = if conversion.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
            pad(spec, sign, digits.as_bytes(), spec.zero && value.is_finite(), out);
        }
        other => out.extend_from_slice(&[b'%', other]),
    }
    Ok(())
}

fn sign(negative: bool, spec: &Spec) -> &'static str {
    match () {
        () if negative => "-",
        () if spec.plus => "+",
        () if spec.space => " ",
        () => "",
    }
}

fn integer(spec: &Spec, prefix: &str, mut digits: String, out: &mut Vec<u8>) {
    if let Some(precision) = spec.precision {
        if precision == 0 && digits == "0" {
            digits.clear();
        }
        digits = format!("{digits:0>precision$}");
    }
    pad(spec, prefix, digits.as_bytes(), spec.zero && spec.precision.is_none(), out);
}

fn pad(spec: &Spec, prefix: &str, digits: &[u8], zeros: bool, out: &mut Vec<u8>) {
    let missing = spec.width.saturating_sub(prefix.len() + digits.len());
    let fill = |out: &mut Vec<u8>, byte| out.extend(std::iter::repeat_n(byte, missing));
    if !spec.minus && !zeros {
        fill(out, b' ');
    }
    out.extend_from_slice(prefix.as_bytes());
    if !spec.minus && zeros {
        fill(out, b'0');
    }
    out.extend_from_slice(digits);
    if spec.minus {
        fill(out, b' ');
    }
}

/// Digits of a value that is not negative.
fn float(value: f64, conversion: u8, spec: &Spec) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return "inf".into();
    }
    let precision = spec.precision.unwrap_or(6);
    match conversion {
        b'f' => {
            let point = if spec.alternate && precision == 0 { "." } else { "" };
            format!("{value:.precision$}{point}")
        }
        b'e' => exponential(value, precision),
        b'a' => hexadecimal(value, spec.precision),
        _ => {
            let significant = precision.max(1);
            let scientific = format!("{value:.*e}", significant - 1);
            let exponent: i32 =
                scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
            let fixed = (-4..i32::try_from(significant).unwrap_or(i32::MAX)).contains(&exponent);
            let shown = if fixed {
                let digits = i32::try_from(significant).unwrap_or(i32::MAX) - 1 - exponent;
                format!("{value:.*}", usize::try_from(digits).unwrap_or(0))
            } else {
                exponential(value, significant - 1)
            };
            if spec.alternate {
                return shown;
            }
            let (mantissa, tail) = match shown.split_once('e') {
                Some((mantissa, tail)) => (mantissa.to_owned(), format!("e{tail}")),
                None => (shown.clone(), String::new()),
            };
            let mantissa = if mantissa.contains('.') {
                mantissa.trim_end_matches('0').trim_end_matches('.').to_owned()
            } else {
                mantissa
            };
            mantissa + &tail
        }
    }
}

/// As C writes it: at least two digits of exponent, with their sign.
fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
        }
        None => text,
    }
}

fn hexadecimal(value: f64, precision: Option<usize>) -> String {
    let bits = value.to_bits();
    let field = i64::try_from(bits >> 52).unwrap_or(0);
    let mut fraction = bits & ((1 << 52) - 1);
    let (mut lead, exponent) = match field {
        0 if fraction == 0 => (0u64, 0),
        0 => (0, -1022),
        _ => (1, field - 1023),
    };
    let digits = match precision {
        Some(precision) if precision < 13 => {
            let drop = u32::try_from(52 - 4 * precision).unwrap_or(0);
            let whole = lead << 52 | fraction;
            let (kept, rest, half) = (whole >> drop, whole & ((1 << drop) - 1), 1u64 << (drop - 1));
            let kept = kept + u64::from(rest > half || rest == half && kept & 1 != 0);
            lead = kept << drop >> 52;
            fraction = (kept << drop) & ((1 << 52) - 1);
            let all = format!("{fraction:013x}");
            all.chars().take(precision).collect()
        }
        Some(precision) => format!("{:0<precision$}", format!("{fraction:013x}")),
        None => format!("{fraction:013x}").trim_end_matches('0').to_owned(),
    };
    let point = if digits.is_empty() { "" } else { "." };
    format!("0x{lead:x}{point}{digits}p{exponent:+}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats with 8-byte or 4-byte arguments laid out as the compiler does.
    fn run(pattern: &str, arguments: &[(u64, u8)]) -> String {
        let mut memory = vec![0u8; 16];
        for (value, width) in arguments {
            let width = usize::from(*width);
            memory.resize(memory.len().next_multiple_of(width), 0);
            memory.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        let text_at = 1000u64;
        let pattern: Vec<u8> = pattern.bytes().chain([0]).collect();
        let read = |at: u64, width: u8| {
            let (from, start) = if at >= text_at { (&pattern, at - text_at) } else { (&memory, at) };
            let start = usize::try_from(start).expect("small");
            let mut bytes = [0; 8];
            let width = usize::from(width);
            bytes[..width].copy_from_slice(&from[start..start + width]);
            Ok(u64::from_le_bytes(bytes))
        };
        let printed = format(read, text_at, 16).expect("readable");
        String::from_utf8(printed.bytes).expect("text")
    }

    fn double(value: f64) -> (u64, u8) {
        (value.to_bits(), 8)
    }

    #[test]
    fn integers() {
        let minus = u64::from((-5i32).cast_unsigned());
        assert_eq!(
            run("%d|%5d|%-5d|%05d|%+d", &[(minus, 4), (42, 4), (42, 4), (minus, 4), (7, 4)]),
            "-5|   42|42   |-0005|+7"
        );
        assert_eq!(
            run("%u %x %X %#x %o", &[(minus, 4), (255, 4), (255, 4), (255, 4), (8, 4)]),
            "4294967291 ff FF 0xff 10"
        );
        assert_eq!(run("%d %lld %hhd", &[(1, 4), (u64::MAX, 8), (0x1ff, 4)]), "1 -1 -1");
        assert_eq!(run("%.3d|%*d|100%%", &[(7, 4), (4, 4), (9, 4)]), "007|   9|100%");
    }

    #[test]
    fn floats() {
        assert_eq!(
            run("%f %.2f %e", &[double(1.5), double(-0.125), double(12345.678)]),
            "1.500000 -0.12 1.234568e+04"
        );
        assert_eq!(
            run("%g %g %g", &[double(0.0001), double(1e-5), double(1_234_567.0)]),
            "0.0001 1e-05 1.23457e+06"
        );
        assert_eq!(
            run("%8.3f|%-8.1f|%08.2f", &[double(3.142_59), double(2.0), double(-1.5)]),
            "   3.143|2.0     |-0001.50"
        );
        assert_eq!(
            run("%f %f %a", &[double(f64::INFINITY), double(f64::NAN), double(1.5)]),
            "inf nan 0x1.8p+0"
        );
    }

    #[test]
    fn texts_characters_pointers() {
        assert_eq!(run("%c%c %p", &[(104, 4), (105, 4), (0xabc0, 8)]), "hi 0xabc0");
        assert_eq!(run("%s", &[(1000, 8)]), "%s");
        assert_eq!(run("%5.1s|", &[(1000, 8)]), "    %|");
    }

    #[test]
    fn broken_formats_print_something_and_end() {
        assert_eq!(run("%", &[]), "%");
        assert_eq!(run("%q %", &[]), "%q %");
        assert_eq!(run("%99999999999d", &[(1, 4)]).len(), FIELD_LIMIT);
    }
}
