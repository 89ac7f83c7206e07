//! Which values are stored, and how they are read back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
struct Basket {
    items: Vec<String>,
    total: f64,
    by_shop: BTreeMap<String, u64>,
    note: Option<String>,
}

fn basket() -> Basket {
    Basket {
        items: vec!["π 🦀 \"quoted\" \u{0}".into(), String::new()],
        total: 0.1 + 0.2,
        by_shop: [("a/b c".to_owned(), u64::MAX)].into(),
        note: None,
    }
}

#[tokio::test]
async fn any_serde_value_is_read_back_unchanged() {
    let session = session(&memory());
    assert_eq!(session.get::<Basket>("basket").await.unwrap(), None);
    session.set("basket", &basket()).await.unwrap();
    session.set("big", &u128::MAX).await.unwrap();
    session.set("none", &None::<u8>).await.unwrap();
    session.set("a key \" with \\ everything \u{7}", "v").await.unwrap();
    assert_eq!(session.get::<Basket>("basket").await.unwrap(), Some(basket()));
    assert_eq!(session.get::<u128>("big").await.unwrap(), Some(u128::MAX));
    assert_eq!(session.get::<Option<u8>>("none").await.unwrap(), Some(None));
    assert_eq!(session.get::<String>("a key \" with \\ everything \u{7}").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn a_value_is_not_rewritten_when_another_one_changes() {
    let store = memory();
    let session = session(&store);
    session.set("float", &f64::from_bits(0x3fd5_5555_5555_5557)).await.unwrap();
    session.set("big", &u128::MAX).await.unwrap();
    for number in 0..100 {
        session.set("other", &number).await.unwrap();
    }
    assert_eq!(session.get::<f64>("float").await.unwrap(), Some(f64::from_bits(0x3fd5_5555_5555_5557)));
    assert_eq!(session.get::<u128>("big").await.unwrap(), Some(u128::MAX));
}

#[tokio::test]
async fn a_value_of_another_type_is_an_error_that_names_the_key() {
    let session = session(&memory());
    session.set("theme", "dark").await.unwrap();
    let error = session.get::<u32>("theme").await.unwrap_err();
    assert!(matches!(&error, SessionError::Undecodable { key, .. } if key == "theme"), "{error:?}");
    let told = McpError::from(error);
    assert_eq!(told.kind, ErrorKind::Internal);
    assert!(told.message.contains("`theme`") && !told.message.contains("dark"), "{}", told.message);

    let error = session.update("theme", |count: &mut u32| *count += 1).await.unwrap_err();
    assert!(matches!(&error, SessionError::Undecodable { key, .. } if key == "theme"), "{error:?}");
    assert_eq!(session.get::<String>("theme").await.unwrap().as_deref(), Some("dark"), "it stays what it was");
}

#[tokio::test]
async fn a_value_that_cannot_be_json_is_an_error_that_names_the_key() {
    let session = session(&memory());
    let error = session.set("pairs", &BTreeMap::from([((1, 2), 3)])).await.unwrap_err();
    assert!(matches!(&error, SessionError::Unencodable { key, .. } if key == "pairs"), "{error:?}");
    assert_eq!(session.keys().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn keys_are_listed_removed_and_cleared() {
    let session = session(&memory());
    for key in ["b", "a", "c"] {
        session.set(key, key).await.unwrap();
    }
    assert_eq!(session.keys().await.unwrap(), ["a", "b", "c"]);
    assert!(session.remove("b").await.unwrap());
    assert!(!session.remove("b").await.unwrap());
    assert_eq!(session.get::<String>("b").await.unwrap(), None);
    session.clear().await.unwrap();
    assert_eq!(session.keys().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn several_values_change_together_or_not_at_all() {
    let session = session(&memory());
    session.set("from", &10).await.unwrap();
    let moved = |amount: i64| {
        session.update_all(move |data| {
            let from = data.get::<i64>("from")?.unwrap_or_default();
            data.set("to", &amount)?;
            data.set("from", &(from - amount))?;
            if from < amount {
                return Err(SessionError::Conflict);
            }
            Ok(from - amount)
        })
    };
    assert_eq!(moved(4).await.unwrap(), 6);
    assert!(moved(7).await.is_err());
    assert_eq!(session.get::<i64>("from").await.unwrap(), Some(6));
    assert_eq!(session.get::<i64>("to").await.unwrap(), Some(4));
}

#[tokio::test]
async fn a_full_session_refuses_more_and_keeps_its_values() {
    let store = memory().with_max_bytes(200).with_max_keys(3);
    let session = session(&store);
    for key in ["a", "b", "c"] {
        session.set(key, &1).await.unwrap();
    }
    let error = session.set("d", &1).await.unwrap_err();
    assert!(matches!(error, SessionError::TooManyKeys { max_keys: 3 }), "{error:?}");
    let error = session.set("a", &"x".repeat(200)).await.unwrap_err();
    assert!(matches!(error, SessionError::TooManyBytes { bytes: 201.., max_bytes: 200 }), "{error:?}");
    assert_eq!(McpError::from(error).kind, ErrorKind::InvalidRequest);
    assert_eq!(session.get::<u8>("a").await.unwrap(), Some(1));
    session.set("a", &"x".repeat(100)).await.unwrap();
    session.remove("b").await.unwrap();
    session.set("d", &1).await.unwrap();
    assert_eq!(session.keys().await.unwrap(), ["a", "c", "d"]);
}
