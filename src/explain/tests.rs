use std::time::Duration;

use super::orders::{REPEATED, WRONG_ORDERS};
use super::{text, *};

#[cfg(all(feature = "cached", feature = "retry"))]
mod logged;

#[test]
fn the_page_about_the_order_lists_each_warning_and_no_other() {
    let page = include_str!("../../docs/ordering.md");
    let (_, section) = page.split_once("\n## Warnings\n").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("a section after it");
    let rows = |columns: usize| {
        let rows = section.lines().filter(move |line| line.starts_with("| ") && line.matches(" |").count() == columns);
        // Without the heading and the line under it.
        rows.skip(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let orders = WRONG_ORDERS.iter().map(|order| {
        let (outside, inside, reason) = (order.outside, order.inside, order.reason);
        format!("| {outside} | {inside} | {reason} | {inside} → {outside} |")
    });
    assert_eq!(rows(4), orders.collect::<Vec<_>>());
    let repeated = REPEATED.iter().map(|repeated| format!("| {} | {} |", repeated.role, repeated.reason));
    assert_eq!(rows(2), repeated.collect::<Vec<_>>());
}

/// The sentence at the top of the page about the order.
#[test]
fn a_wrong_order_contradicts_the_documented_one() {
    let documented = [
        Role::Audit,
        Role::Output,
        Role::Validate,
        Role::Session,
        Role::Cache,
        Role::Batch,
        Role::Retry,
        Role::Breaker,
        Role::Limit,
        Role::Idempotency,
        Role::Transaction,
    ];
    let sentence = documented.map(|role| role.to_string()).join(" → ");
    assert!(include_str!("../../docs/ordering.md").contains(&format!("{sentence} → server")));
    let place = |role| documented.iter().position(|documented| *documented == role).expect("a role with a place");
    for order in &WRONG_ORDERS {
        assert!(place(order.inside) < place(order.outside), "{} inside {}", order.inside, order.outside);
    }
}

#[test]
fn names_are_joined_and_bounded() {
    let join = |names: &[&str]| text::names(names.iter().copied());
    assert_eq!(join(&[]), "");
    assert_eq!(join(&["a"]), "a");
    assert_eq!(join(&["a", "b"]), "a and b");
    assert_eq!(join(&["a", "b", "c"]), "a, b and c");
    let many: Vec<_> = (0..45).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(join(&many), "0, 1, 2, 3, 4, 5, 6, 7 and 37 more");
    assert_eq!(join(&["a\nb", &"x".repeat(1000)]), format!("a b and {}", "x".repeat(100)));
}

#[test]
fn times_and_bytes_are_written_in_the_largest_unit_that_fits() {
    let times = [(0, "0 s"), (1, "1 s"), (90, "90 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")];
    for (secs, written) in times {
        assert_eq!(time(Duration::from_secs(secs)), written);
    }
    assert_eq!([50, 1500].map(|millis| time(Duration::from_millis(millis))), ["50 ms", "1.5s"]);
    assert_eq!([0, 100, 2048, 64 << 20].map(bytes), ["0 B", "100 B", "2 KiB", "64 MiB"]);
}

#[test]
fn a_description_has_the_name_of_a_type_without_its_path_and_its_parameters() {
    struct Generic<T>(std::marker::PhantomData<T>);
    assert_eq!(Description::of::<Generic<Vec<String>>>().name(), "Generic");
    assert_eq!(Description::of::<String>().name(), "String");
}

/// `main` prints what it returns with `Debug`.
#[test]
fn a_main_that_returns_the_warnings_of_a_stack_ends_with_their_sentences() {
    let idle = |layer: &str| Warning::Idle { layer: layer.into(), reason: "no tool".into(), fix: "remove it".into() };
    let returned: Box<dyn std::error::Error> = StrictError::new(vec![idle("A"), idle("B")]).into();
    assert_eq!(
        format!("{returned:?}"),
        "A acts on no tool, resource or prompt: no tool. To change this, remove it.\n\
         B acts on no tool, resource or prompt: no tool. To change this, remove it."
    );
}
