//! Numbers for people: three digits of them, and a unit.

/// Three digits of a number.
pub(crate) fn three(number: f64) -> String {
    match number.abs() {
        size if size >= 99.95 => format!("{number:.0}"),
        size if size >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// A time in nanoseconds.
pub(crate) fn time(ns: f64) -> String {
    match ns {
        _ if ns < 999.5 => format!("{} ns", three(ns)),
        _ if ns < 999.5e3 => format!("{} µs", three(ns / 1e3)),
        _ if ns < 999.5e6 => format!("{} ms", three(ns / 1e6)),
        _ => format!("{} s", three(ns / 1e9)),
    }
}

/// A size in bytes.
pub(crate) fn bytes(bytes: f64) -> String {
    match bytes.abs() {
        size if size < 1000.0 => format!("{bytes:.0} B"),
        size if size < 1000.0 * 1024.0 => format!("{} KiB", three(bytes / 1024.0)),
        size if size < 1000.0 * 1024.0 * 1024.0 => {
            format!("{} MiB", three(bytes / 1024f64.powi(2)))
        }
        _ => format!("{} GiB", three(bytes / 1024f64.powi(3))),
    }
}

/// A rate in bytes per second.
pub(crate) fn speed(bytes: f64) -> String {
    if bytes < 999.5e6 {
        format!("{} MB/s", three(bytes / 1e6))
    } else {
        format!("{} GB/s", three(bytes / 1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        assert_eq!(
            [1.0, 9.994, 9.996, 99.96, 1234.4].map(three),
            ["1.00", "9.99", "10.0", "100", "1234"]
        );
        assert_eq!(
            [80.0, 999.0, 87_300.0, 999_600.0, 16.7e6, 2e9].map(time),
            ["80.0 ns", "999 ns", "87.3 µs", "1.00 ms", "16.7 ms", "2.00 s"]
        );
        assert_eq!(
            [0.0, 999.0, 16_384.0, 8_294_400.0, 24e9].map(bytes),
            ["0 B", "999 B", "16.0 KiB", "7.91 MiB", "22.4 GiB"]
        );
        assert_eq!([5e6, 12.5e9].map(speed), ["5.00 MB/s", "12.5 GB/s"]);
    }
}
