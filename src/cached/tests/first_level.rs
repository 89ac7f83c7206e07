mod bounds;
mod freshness;
mod keeping;
mod time;

use super::*;
