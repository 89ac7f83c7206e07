//! The places of the embedded upstream.

/// A city as a gazetteer lists it.
#[derive(Debug)]
pub struct City {
    /// The name in English, which is the one shown.
    pub name: &'static str,
    /// Other spellings that find the city.
    pub aliases: &'static [&'static str],
    /// The country's name in English.
    pub country: &'static str,
    /// The country's ISO 3166-1 code of two letters.
    pub country_code: &'static str,
    /// Degrees north of the equator.
    pub latitude: f64,
    /// Degrees east of Greenwich.
    pub longitude: f64,
    /// Metres above the sea.
    pub elevation: f64,
    /// The IANA name of the time zone.
    pub timezone: &'static str,
    /// Minutes east of UTC in standard time, without summer time.
    pub utc_offset: i32,
    /// The approximate population.
    pub population: u32,
}

impl City {
    /// The city's number in the gazetteer: its place in the table, from 1.
    #[must_use]
    pub fn id(&self) -> usize {
        1 + CITIES.iter().position(|city| std::ptr::eq(city, self)).unwrap_or(CITIES.len())
    }
}

/// Finds a city by its name or one of its other spellings, in any case.
#[must_use]
pub fn find(name: &str) -> Option<&'static City> {
    let wanted = name.trim().to_lowercase();
    CITIES.iter().find(|city| {
        city.name.to_lowercase() == wanted || city.aliases.iter().any(|alias| alias.to_lowercase() == wanted)
    })
}

/// Finds the city within half a degree of a point, if there is one.
#[must_use]
pub fn near(latitude: f64, longitude: f64) -> Option<&'static City> {
    CITIES.iter().find(|city| (city.latitude - latitude).abs() < 0.5 && (city.longitude - longitude).abs() < 0.5)
}

/// One row of the table: name and other spellings; country; latitude, longitude and elevation;
/// time zone and its offset in minutes; population.
macro_rules! cities {
    ($($name:literal $([$($alias:literal),+])?, $country:literal $code:literal,
       $lat:literal $lon:literal $elevation:literal, $zone:literal $offset:literal,
       $population:literal;)*) => {
        &[$(City {
            name: $name,
            aliases: &[$($($alias),+)?],
            country: $country,
            country_code: $code,
            latitude: $lat,
            longitude: $lon,
            elevation: $elevation,
            timezone: $zone,
            utc_offset: $offset,
            population: $population,
        }),*]
    };
}

/// All cities, by continent.
pub static CITIES: &[City] = cities![
    "Amsterdam", "Netherlands" "NL", 52.374 4.890 13.0, "Europe/Amsterdam" 60, 741_636;
    "Athens" ["Athina", "Αθήνα"], "Greece" "GR", 37.984 23.728 42.0, "Europe/Athens" 120, 643_452;
    "Barcelona", "Spain" "ES", 41.389 2.159 47.0, "Europe/Madrid" 60, 1_620_343;
    "Berlin", "Germany" "DE", 52.524 13.411 74.0, "Europe/Berlin" 60, 3_426_354;
    "Brussels" ["Bruxelles", "Brussel"], "Belgium" "BE", 50.850 4.349 28.0, "Europe/Brussels" 60, 1_019_022;
    "Budapest", "Hungary" "HU", 47.498 19.040 104.0, "Europe/Budapest" 60, 1_741_041;
    "Copenhagen" ["København", "Kobenhavn"], "Denmark" "DK", 55.676 12.566 14.0, "Europe/Copenhagen" 60, 1_153_615;
    "Dublin" ["Baile Átha Cliath"], "Ireland" "IE", 53.333 -6.249 17.0, "Europe/Dublin" 0, 1_024_027;
    "Geneva" ["Genève", "Geneve", "Genf"], "Switzerland" "CH", 46.202 6.146 375.0, "Europe/Zurich" 60, 183_981;
    "Hamburg", "Germany" "DE", 53.551 9.993 6.0, "Europe/Berlin" 60, 1_845_229;
    "Helsinki" ["Helsingfors"], "Finland" "FI", 60.170 24.935 26.0, "Europe/Helsinki" 120, 658_864;
    "Istanbul" ["İstanbul", "Constantinople"], "Türkiye" "TR", 41.014 28.950 39.0, "Europe/Istanbul" 180, 15_701_602;
    "Kyiv" ["Kiev", "Київ"], "Ukraine" "UA", 50.455 30.524 187.0, "Europe/Kyiv" 120, 2_952_301;
    "Lisbon" ["Lisboa"], "Portugal" "PT", 38.717 -9.133 45.0, "Europe/Lisbon" 0, 517_802;
    "London", "United Kingdom" "GB", 51.509 -0.126 25.0, "Europe/London" 0, 8_961_989;
    "Madrid", "Spain" "ES", 40.417 -3.703 665.0, "Europe/Madrid" 60, 3_255_944;
    "Milan" ["Milano"], "Italy" "IT", 45.464 9.189 120.0, "Europe/Rome" 60, 1_371_498;
    "Munich" ["München", "Muenchen"], "Germany" "DE", 48.137 11.575 524.0, "Europe/Berlin" 60, 1_488_202;
    "Oslo", "Norway" "NO", 59.913 10.746 26.0, "Europe/Oslo" 60, 709_037;
    "Paris", "France" "FR", 48.853 2.349 42.0, "Europe/Paris" 60, 2_138_551;
    "Prague" ["Praha", "Prag"], "Czechia" "CZ", 50.088 14.421 202.0, "Europe/Prague" 60, 1_357_326;
    "Reykjavik" ["Reykjavík"], "Iceland" "IS", 64.135 -21.895 37.0, "Atlantic/Reykjavik" 0, 139_875;
    "Rome" ["Roma"], "Italy" "IT", 41.892 12.511 20.0, "Europe/Rome" 60, 2_748_109;
    "Stockholm", "Sweden" "SE", 59.329 18.069 17.0, "Europe/Stockholm" 60, 984_748;
    "Vienna" ["Wien"], "Austria" "AT", 48.208 16.372 171.0, "Europe/Vienna" 60, 1_973_403;
    "Warsaw" ["Warszawa"], "Poland" "PL", 52.230 21.012 113.0, "Europe/Warsaw" 60, 1_863_056;
    "Zurich" ["Zürich", "Zuerich"], "Switzerland" "CH", 47.367 8.550 408.0, "Europe/Zurich" 60, 443_037;
    "Bengaluru" ["Bangalore"], "India" "IN", 12.972 77.594 920.0, "Asia/Kolkata" 330, 8_443_675;
    "Bangkok" ["Krung Thep"], "Thailand" "TH", 13.754 100.501 12.0, "Asia/Bangkok" 420, 5_588_222;
    "Beijing" ["Peking", "北京"], "China" "CN", 39.908 116.397 49.0, "Asia/Shanghai" 480, 21_893_095;
    "Delhi" ["New Delhi"], "India" "IN", 28.652 77.231 227.0, "Asia/Kolkata" 330, 11_034_555;
    "Dubai", "United Arab Emirates" "AE", 25.077 55.309 24.0, "Asia/Dubai" 240, 3_790_000;
    "Hanoi" ["Hà Nội"], "Vietnam" "VN", 21.025 105.841 20.0, "Asia/Ho_Chi_Minh" 420, 8_053_663;
    "Hong Kong", "Hong Kong" "HK", 22.279 114.163 20.0, "Asia/Hong_Kong" 480, 7_396_076;
    "Jakarta", "Indonesia" "ID", -6.215 106.845 8.0, "Asia/Jakarta" 420, 10_562_088;
    "Kathmandu", "Nepal" "NP", 27.702 85.321 1_317.0, "Asia/Kathmandu" 345, 845_767;
    "Manila", "Philippines" "PH", 14.604 120.982 11.0, "Asia/Manila" 480, 1_846_513;
    "Mumbai" ["Bombay"], "India" "IN", 19.073 72.883 14.0, "Asia/Kolkata" 330, 12_442_373;
    "Osaka" ["大阪"], "Japan" "JP", 34.694 135.502 24.0, "Asia/Tokyo" 540, 2_753_862;
    "Seoul" ["서울"], "South Korea" "KR", 37.566 126.978 38.0, "Asia/Seoul" 540, 9_386_034;
    "Shanghai" ["上海"], "China" "CN", 31.222 121.458 12.0, "Asia/Shanghai" 480, 24_874_500;
    "Singapore", "Singapore" "SG", 1.290 103.850 15.0, "Asia/Singapore" 480, 5_917_600;
    "Tel Aviv" ["Tel Aviv-Yafo"], "Israel" "IL", 32.081 34.781 15.0, "Asia/Jerusalem" 120, 474_530;
    "Tokyo" ["Tōkyō", "東京"], "Japan" "JP", 35.690 139.692 44.0, "Asia/Tokyo" 540, 9_733_276;
    "Accra", "Ghana" "GH", 5.556 -0.197 61.0, "Africa/Accra" 0, 1_963_264;
    "Addis Ababa" ["Addis Abeba"], "Ethiopia" "ET", 9.025 38.747 2_405.0, "Africa/Addis_Ababa" 180, 2_757_729;
    "Cairo" ["Al Qahirah", "القاهرة"], "Egypt" "EG", 30.063 31.250 23.0, "Africa/Cairo" 120, 9_606_916;
    "Cape Town" ["Kaapstad"], "South Africa" "ZA", -33.926 18.423 25.0, "Africa/Johannesburg" 120, 4_772_846;
    "Casablanca", "Morocco" "MA", 33.588 -7.611 27.0, "Africa/Casablanca" 60, 3_215_935;
    "Johannesburg", "South Africa" "ZA", -26.202 28.044 1_767.0, "Africa/Johannesburg" 120, 4_803_262;
    "Lagos", "Nigeria" "NG", 6.455 3.394 11.0, "Africa/Lagos" 60, 15_388_000;
    "Nairobi", "Kenya" "KE", -1.283 36.817 1_684.0, "Africa/Nairobi" 180, 4_397_073;
    "Anchorage", "United States" "US", 61.218 -149.900 31.0, "America/Anchorage" -540, 291_247;
    "Chicago", "United States" "US", 41.850 -87.650 179.0, "America/Chicago" -360, 2_746_388;
    "Denver", "United States" "US", 39.739 -104.985 1_609.0, "America/Denver" -420, 715_522;
    "Honolulu", "United States" "US", 21.307 -157.858 18.0, "Pacific/Honolulu" -600, 350_964;
    "Los Angeles" ["LA"], "United States" "US", 34.052 -118.244 89.0, "America/Los_Angeles" -480, 3_898_747;
    "Mexico City" ["Ciudad de México", "Ciudad de Mexico", "CDMX"], "Mexico" "MX", 19.428 -99.128 2_240.0, "America/Mexico_City" -360, 9_209_944;
    "Montreal" ["Montréal"], "Canada" "CA", 45.509 -73.588 216.0, "America/Toronto" -300, 1_762_949;
    "New York" ["New York City", "NYC"], "United States" "US", 40.714 -74.006 10.0, "America/New_York" -300, 8_804_190;
    "San Francisco" ["SF"], "United States" "US", 37.775 -122.419 16.0, "America/Los_Angeles" -480, 873_965;
    "Seattle", "United States" "US", 47.606 -122.332 56.0, "America/Los_Angeles" -480, 737_015;
    "Toronto", "Canada" "CA", 43.706 -79.399 175.0, "America/Toronto" -300, 2_794_356;
    "Vancouver", "Canada" "CA", 49.250 -123.119 70.0, "America/Vancouver" -480, 662_248;
    "Bogota" ["Bogotá"], "Colombia" "CO", 4.610 -74.082 2_582.0, "America/Bogota" -300, 7_674_366;
    "Buenos Aires", "Argentina" "AR", -34.613 -58.377 31.0, "America/Argentina/Buenos_Aires" -180, 3_120_612;
    "Lima", "Peru" "PE", -12.043 -77.028 154.0, "America/Lima" -300, 7_737_002;
    "Rio de Janeiro" ["Rio"], "Brazil" "BR", -22.906 -43.182 13.0, "America/Sao_Paulo" -180, 6_211_223;
    "Santiago" ["Santiago de Chile"], "Chile" "CL", -33.457 -70.648 556.0, "America/Santiago" -240, 4_837_295;
    "Sao Paulo" ["São Paulo"], "Brazil" "BR", -23.548 -46.636 769.0, "America/Sao_Paulo" -180, 11_451_999;
    "Auckland", "New Zealand" "NZ", -36.849 174.763 26.0, "Pacific/Auckland" 720, 1_463_000;
    "Melbourne", "Australia" "AU", -37.814 144.963 25.0, "Australia/Melbourne" 600, 4_917_750;
    "Perth", "Australia" "AU", -31.952 115.861 24.0, "Australia/Perth" 480, 2_192_229;
    "Sydney", "Australia" "AU", -33.868 151.207 58.0, "Australia/Sydney" 600, 5_248_790;
];
