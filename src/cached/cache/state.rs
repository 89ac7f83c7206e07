//! The settings of one clone of a cache, and the state that all clones share.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::error::LoadError;
use super::load::Outcome;
use super::second_level_client::SecondLevelClient;
use super::settings::Settings;
use super::single_flight::Flights;
use super::stats::Counts;
use super::sync;
use crate::cached::first_level::entry::Policy;
use crate::cached::first_level::invalidation_key::InvalidationKey;
use crate::cached::first_level::{FirstLevel, Probe};

/// A load holds one, and does not keep the cache alive.
pub(in crate::cached) struct State<K, V, E> {
    pub(in crate::cached) settings: Arc<Settings<K, V, E>>,
    pub(in crate::cached) shared: Arc<Shared<K, V, E>>,
}

pub(in crate::cached) struct Shared<K, V, E> {
    pub(in crate::cached) first_level: Arc<FirstLevel<K, V, E>>,
    pub(in crate::cached) flights: Flights<K, Outcome<V, E>>,
    pub(in crate::cached) counts: Arc<Counts>,
    pub(in crate::cached) client: Option<Arc<SecondLevelClient<K, V>>>,
    pub(in crate::cached) alive: watch::Receiver<()>,
}

impl<K, V, E> Clone for State<K, V, E> {
    fn clone(&self) -> Self {
        Self { settings: Arc::clone(&self.settings), shared: Arc::clone(&self.shared) }
    }
}

impl<K, V, E> State<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: LoadError,
{
    /// Work in the background ends when the sender of `alive` is dropped.
    pub(in crate::cached) fn new(settings: Settings<K, V, E>, alive: watch::Receiver<()>) -> Self {
        let shared = Shared {
            first_level: Arc::new(FirstLevel::new(&settings.bounds)),
            flights: Flights::default(),
            counts: Arc::default(),
            client: settings.level.as_ref().map(SecondLevelClient::new).map(Arc::new),
            alive,
        };
        Self { settings: Arc::new(settings), shared: Arc::new(shared) }
    }

    pub(in crate::cached) fn client(&self) -> Option<&SecondLevelClient<K, V>> {
        self.shared.client.as_deref()
    }

    /// Starts the work in the background, if there is a second level and a runtime, and it does not run.
    pub(in crate::cached) fn start(&self) {
        let Shared { client, first_level, alive, .. } = &*self.shared;
        if let Some(client) = client {
            sync::start(client, first_level, self.settings.second_level_timeout, alive);
        }
    }

    pub(in crate::cached) fn probe(&self, key: &K, keys: &[InvalidationKey]) -> Option<Probe<V>> {
        self.shared.first_level.probe(key, keys, &self.policy())
    }

    pub(in crate::cached) fn policy(&self) -> Policy<'_> {
        self.settings.policy(self.client().map_or(Duration::MAX, |client| client.trust(&self.settings)))
    }
}
