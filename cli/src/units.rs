//! Numbers in readable form.

use std::time::Duration;

use gatefold::printable;

/// Three digits and a unit.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (value, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// Binary units, one decimal from KiB on.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (size, unit) in UNITS {
        if bytes >= size {
            let (whole, tenth) = (bytes / size, bytes % size * 10 / size);
            return if tenth == 0 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") };
        }
    }
    format!("{bytes} B")
}

/// The bytes of so many MiB, which the option `name` gave.
pub fn mebibytes(name: &str, mib: u64) -> Result<u64, String> {
    mib.checked_mul(1 << 20).ok_or_else(|| format!("{name}: expected at most 2^44 MiB, got {mib}"))
}

/// `12,345,678`
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 text`, `2 texts`
pub fn count(number: usize, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `[20, 3, 64]` as `20 x 3 x 64`.
pub fn shape(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ")
}

/// The first `width` columns of `text`, for messages and tables.
pub fn shortened(text: &str, width: usize) -> String {
    let start: String = text.chars().take(width + 1).collect();
    console::truncate_str(&printable(&start, usize::MAX), width, "…").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let text = |nanoseconds| duration(Duration::from_nanos(nanoseconds));
        assert_eq!(text(0), "0.00 µs");
        assert_eq!(text(1_234), "1.23 µs");
        assert_eq!(text(12_340_000), "12.3 ms");
        assert_eq!(text(999_000_000), "999 ms");
        assert_eq!(text(1_500_000_000), "1.50 s");
    }

    #[test]
    fn bytes_change_units_at_powers_of_two() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(128 << 20), "128 MiB");
        assert_eq!(bytes(u64::MAX), "17179869183.9 GiB");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(344_962), "344,962");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(count(1, "text"), "1 text");
    }

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(shortened("a\x1b[2Jb", 20), "a\\u{1b}[2Jb");
        assert_eq!(shortened("abcdef", 4), "abc…");
    }
}
