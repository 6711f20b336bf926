//! `tombola key`: makes a request key.
//!
//! A key holds its own time, since the cluster forgets keys by their time. Made from an order's id and time, the key of an
//! order is the same wherever it is made again, so that nothing about it need be stored.

use rand::random;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{CliError, Exit, Globals, output, session};
use crate::{pool::RequestKey, types::Millis};

/// What the key is made of.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tombola key
  tombola key --from order-4711 --at 2026-03-01T12:00:00Z   (the same key whenever and wherever it is made)")]
pub struct Args {
    /// Text that names the request for ever, as an order's id
    #[arg(long, requires = "at", value_name = "TEXT")]
    from: Option<String>,
    /// The request's time: RFC 3339, or milliseconds since 1970 [default: the cluster's now]
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    at: Option<Millis>,
}

/// Makes a key.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let key = match (args.at, args.from) {
        (Some(at), Some(text)) => key_from(at, &text),
        (Some(at), None) => RequestKey::new(at, random()),
        (None, _) => {
            let client = session::open(globals).await?;
            let key = client.new_key().await;
            client.close().await;
            key.map_err(|error| session::failed(error, None))?
        }
    };
    let json = json!({"key": key.to_string(), "time_ms": key.time().0});
    output::data(globals.output, &json, || format!("{key}\n"));
    Ok(Exit::Ok)
}

/// The key of `text` at `at`: its 74 free bits are those of the first ten bytes of SHA-256 of the text.
fn key_from(at: Millis, text: &str) -> RequestKey {
    let digest = Sha256::digest(text.as_bytes());
    let entropy: [u8; 10] = std::array::from_fn(|position| digest[position]);
    RequestKey::new(at, entropy)
}

/// Reads milliseconds since 1970, or RFC 3339 (`2026-03-01T12:00:00.250+01:00`); at most what a key can hold.
fn parse_time(text: &str) -> Result<Millis, String> {
    let wrong = || "a time is RFC 3339, as 2026-03-01T12:00:00Z, or milliseconds since 1970".to_owned();
    let ms = match text.parse() {
        Ok(ms) => ms,
        Err(_) => parse_rfc3339(text).ok_or_else(wrong)?,
    };
    if ms < 1 << 48 { Ok(Millis(ms)) } else { Err("a key holds times up to the year 10889".to_owned()) }
}

fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone);
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if day < 1 || day > days_in(year, month) {
        return None;
    }
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second - offset_s(zone)?;
    u64::try_from(seconds * 1_000 + milliseconds(fraction)?).ok()
}

/// Three numbers of exactly so many digits, with a separator between them.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let parts: [&str; 3] = parts.try_into().ok()?;
    let mut numbers = [0; 3];
    for ((number, part), digits) in numbers.iter_mut().zip(parts).zip(digits) {
        *number = exactly(part, digits)?;
    }
    Some(numbers)
}

fn exactly(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The first three digits of a fraction; more are cut off.
fn milliseconds(fraction: &str) -> Option<i64> {
    let legal = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    legal.then(|| format!("{fraction:0<3}")[..3].parse().ok())?
}

/// Seconds east of UTC.
fn offset_s(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (exactly(hours, 2)?, exactly(minutes, 2)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar: whole 400-year cycles of years that begin in March, so that a
/// leap day comes last (Howard Hinnant, "chrono-compatible low-level date algorithms", 2013).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (cycle, year_of_cycle) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    cycle * 146_097 + day_of_cycle - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_says() {
        let expected = [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799_000),
            ("2026-03-01T12:00:00Z", 1_772_366_400_000),
            ("2026-03-01T13:00:00.250+01:00", 1_772_366_400_250),
            ("2026-03-01t06:30:00.5-05:30", 1_772_366_400_500),
            ("2026-03-01 12:00:00.123999z", 1_772_366_400_123),
            ("2024-12-31T23:59:60Z", 1_735_689_600_000),
            ("1772366400000", 1_772_366_400_000),
        ];
        for (text, ms) in expected {
            assert_eq!(parse_time(text), Ok(Millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let wrong = [
            "",
            "now",
            "4711x",
            "-1",
            "2026-03-01",
            "2026-3-1T12:00:00Z",
            "2026-03-01T12:00:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-03-00T00:00:00Z",
            "2026-03-01T24:00:00Z",
            "2026-03-01T12:60:00Z",
            "2026-03-01T12:00:00.Z",
            "2026-03-01T12:00:00.x5Z",
            "2026-03-01T12:00:00+1:00",
            "2026-03-01T12:00:00+01",
            "2026-03-01T12:00:00é",
            "1969-12-31T23:59:59Z",
            "281474976710656",
        ];
        for text in wrong {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    /// Golden: `printf order-4711 | sha256sum` begins 173d0ddbff034193face, and 1 772 366 400 000 ms are 019ca9450a00.
    #[test]
    fn a_key_from_a_text_is_the_same_for_ever() {
        let at = Millis(1_772_366_400_000);
        assert_eq!(key_from(at, "order-4711").to_string(), "019ca945-0a00-773d-8ddb-ff034193face");
        assert_eq!(key_from(at, "order-4711").time(), at);
        assert_ne!(key_from(at, "order-4711"), key_from(at, "order-4712"));
    }
}
