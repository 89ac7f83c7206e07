//! JSON pointers that are safe to repeat in an answer.

use std::cmp::Ordering;

/// The longest part of a pointer that is repeated, in characters: the caller may have chosen the name.
const MAX_NAME_CHARS: usize = 100;

/// Appends a name to a pointer: without characters that end a line or a quotation, and shortened if it is too long.
pub(super) fn push_name(pointer: &mut String, name: &str) {
    pointer.push('/');
    for (position, char) in name.chars().enumerate() {
        if position == MAX_NAME_CHARS {
            pointer.push('…');
            break;
        }
        match char {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            '`' => pointer.push('\''),
            char if char.is_control() => pointer.push('\u{fffd}'),
            char => pointer.push(char),
        }
    }
}

/// Rewrites a pointer of the validator as [`push_name`] does.
pub(super) fn pointer_of(raw: &str) -> String {
    let mut pointer = String::with_capacity(raw.len());
    for part in raw.split('/').skip(1) {
        push_name(&mut pointer, &part.replace("~1", "/").replace("~0", "~"));
    }
    pointer
}

/// Returns a pointer as a path in code.
pub(super) fn path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        if is_index(part) && !path.is_empty() {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    path
}

fn is_index(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Compares pointers. The tenth item comes after the second.
pub(super) fn by_place(one: &str, other: &str) -> Ordering {
    let (mut these, mut those) = (one.split('/'), other.split('/'));
    loop {
        let order = match (these.next(), those.next()) {
            (None, None) => return Ordering::Equal,
            (this, that) if this.is_none() || that.is_none() => this.cmp(&that),
            (Some(this), Some(that)) if is_index(this) && is_index(that) => {
                this.len().cmp(&that.len()).then_with(|| this.cmp(that))
            }
            (this, that) => this.cmp(&that),
        };
        if order.is_ne() {
            return order;
        }
    }
}
