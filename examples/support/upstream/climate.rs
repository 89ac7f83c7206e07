//! The generated weather of the embedded upstream: it fits the latitude, the height and the season, and is otherwise
//! random, with a seed from place and date.

use std::{
    f64::consts::TAU,
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

/// The weather of one day at one place.
#[derive(Debug)]
pub struct Weather {
    /// The WMO's weather code (table 4677).
    code: u8,
    max: f64,
    min: f64,
    now: f64,
    rain_probability: u8,
    humidity: u8,
    wind: f64,
}

/// A quantity that a request can ask for.
#[derive(Debug)]
pub struct Variable {
    /// Its name in a request.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Reads it from a day's weather.
    pub value: fn(&Weather) -> Value,
}

const fn variable(name: &'static str, unit: &'static str, value: fn(&Weather) -> Value) -> Variable {
    Variable { name, unit, value }
}

/// The quantities of the current weather.
pub static CURRENT: [Variable; 4] = [
    variable("temperature_2m", "°C", |day| day.now.into()),
    variable("relative_humidity_2m", "%", |day| day.humidity.into()),
    variable("weather_code", "wmo code", |day| day.code.into()),
    variable("wind_speed_10m", "km/h", |day| day.wind.into()),
];

/// The quantities of whole days.
pub static DAILY: [Variable; 4] = [
    variable("weather_code", "wmo code", |day| day.code.into()),
    variable("temperature_2m_max", "°C", |day| day.max.into()),
    variable("temperature_2m_min", "°C", |day| day.min.into()),
    variable("precipitation_probability_max", "%", |day| day.rain_probability.into()),
];

/// Generates the weather of a day, given in days since 1970-01-01.
#[must_use]
pub fn weather(latitude: f64, longitude: f64, elevation: f64, day: i64) -> Weather {
    let mut rng = fastrand::Rng::with_seed(seed(latitude, longitude, day));
    let code = sky(rng.u8(0..100));
    let wet = code >= 51;

    // The middle of July is the warmest time in the north, the middle of January in the south.
    let season = ((day as f64 - 198.0) / 365.2425 * TAU).cos() * latitude.signum();
    let from_equator = latitude.abs();
    let mean = 28.0 - (from_equator - 15.0).max(0.0) * 0.5 - elevation * 0.005
        + season * from_equator * 0.2
        + between(&mut rng, -4.0, 4.0);
    let swing = if wet { 2.5 } else { 4.5 } + between(&mut rng, -1.0, 1.0);
    let min = mean - swing;

    Weather {
        code: if min < 0.0 { frozen(code) } else { code },
        max: tenths(mean + swing),
        min: tenths(min),
        now: tenths(mean + swing * between(&mut rng, -0.3, 0.9)),
        rain_probability: match code {
            0..=1 => rng.u8(0..10),
            2..=48 => rng.u8(5..35),
            _ => rng.u8(60..=100),
        },
        humidity: if wet { rng.u8(75..=98) } else { rng.u8(35..75) },
        wind: tenths(between(&mut rng, 2.0, if wet { 36.0 } else { 22.0 })),
    }
}

/// A different number for every place, to about a kilometre, and every day.
fn seed(latitude: f64, longitude: f64, day: i64) -> u64 {
    let hundredths = |degrees: f64| (degrees * 100.0).round() as i64;
    [hundredths(latitude), hundredths(longitude), day]
        .iter()
        .fold(0, |seed: u64, part| (seed ^ part.cast_unsigned()).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The WMO code that a number below 100 stands for.
fn sky(percent: u8) -> u8 {
    match percent {
        0..28 => 0,
        28..42 => 1,
        42..58 => 2,
        58..72 => 3,
        72..76 => 45,
        76..82 => 51,
        82..90 => 61,
        90..93 => 63,
        93..97 => 80,
        _ => 95,
    }
}

/// The code for the same weather in frost.
fn frozen(code: u8) -> u8 {
    match code {
        45 => 48,
        51 | 61 => 71,
        63 => 73,
        80 | 95 => 85,
        other => other,
    }
}

fn between(rng: &mut fastrand::Rng, low: f64, high: f64) -> f64 {
    low + rng.f64() * (high - low)
}

fn tenths(value: f64) -> f64 {
    // Adding 0.0 turns -0.0 into 0.0.
    (value * 10.0).round() / 10.0 + 0.0
}

/// A moment as the clocks of a place show it, to the quarter of an hour.
#[derive(Debug, Clone, Copy)]
pub struct LocalTime {
    /// Days since 1970-01-01.
    pub day: i64,
    minute: i64,
}

impl LocalTime {
    /// Reads a clock at a place that is this many minutes east of UTC.
    #[must_use]
    pub fn new(now: SystemTime, utc_offset: i32) -> Self {
        // A clock set before 1970 has no usable date.
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let minutes = (seconds / 60).cast_signed() + i64::from(utc_offset);
        Self { day: minutes.div_euclid(24 * 60), minute: minutes.rem_euclid(24 * 60) / 15 * 15 }
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute) = (self.minute / 60, self.minute % 60);
        write!(f, "{}T{hour:02}:{minute:02}", date(self.day))
    }
}

/// Writes a day, given in days since 1970-01-01, as `2025-01-31`.
#[must_use]
pub fn date(day: i64) -> String {
    let is_leap = |year| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut left = day;
    let mut year = 1970;
    loop {
        let february = if is_leap(year) { 29 } else { 28 };
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (month, length) in (1..).zip(months) {
            if left < length {
                return format!("{year}-{month:02}-{:02}", left + 1);
            }
            left -= length;
        }
        year += 1;
    }
}
