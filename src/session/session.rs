use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::data::Data;
use super::engine::{Engine, Found};
use super::key::{Key, new_handle};
use super::{SessionError, SessionMode};
use crate::scope::{self, Scoped};
use crate::shared_work::session_opened;

/// The data of a caller from one call to the next. Cheap to clone. See the [manual](super).
///
/// It reads only on request and caches nothing, so that it sees the writes of other replicas at once.
#[derive(Clone)]
pub struct Session {
    pub(super) engine: Engine,
    pub(super) key: Arc<Key>,
}

/// The entry of the call scope.
pub(super) struct Current {
    /// The tool that is called.
    pub(super) tool: Arc<str>,
    pub(super) session: CurrentSession,
}

pub(super) enum CurrentSession {
    Session(Session),
    /// The call has no session, and the layer let it through.
    None(SessionMode),
}

impl Scoped for Current {
    fn tool(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.tool))
    }

    fn session_id(&self) -> Option<Option<Arc<str>>> {
        Some(match &self.session {
            CurrentSession::Session(session) => Some(Arc::clone(session.key.id())),
            CurrentSession::None(_) => None,
        })
    }
}

impl Session {
    /// Returns the session of the current call, where a [`SessionStore`](super::SessionStore) is in front of the tool.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoLayer`] without a `SessionStore`, and in a spawned task; [`SessionError::None`] if the call was
    /// [let through](super::SessionStore::optional) without a session.
    pub fn current() -> Result<Self, SessionError> {
        session_opened();
        match scope::current::<Current>().as_deref().map(|current| &current.session) {
            Some(CurrentSession::Session(session)) => Ok(session.clone()),
            Some(CurrentSession::None(mode)) => Err(SessionError::None(*mode)),
            None => Err(SessionError::NoLayer),
        }
    }

    /// Returns the value of `key`, or `None` where there is none. Takes one read.
    ///
    /// # Errors
    ///
    /// [`SessionError::Undecodable`] if it is not a `T`, and those of the [session](super#errors).
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, SessionError> {
        self.engine.peek(&self.key, key).await
    }

    /// Sets the value of `key`. Takes one write, with a read before it where another replica has written.
    ///
    /// # Errors
    ///
    /// Those of the [session](super#errors). Nothing was changed then, except perhaps with [`SessionError::OutcomeUnknown`].
    pub async fn set<T: Serialize + ?Sized + Sync>(&self, key: &str, value: &T) -> Result<(), SessionError> {
        self.update_all(|data| data.set(key, value)).await
    }

    /// Removes `key`. Returns false if it was not there.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn remove(&self, key: &str) -> Result<bool, SessionError> {
        self.update_all(|data| Ok(data.remove(key))).await
    }

    /// Returns the keys, sorted. Takes one read.
    ///
    /// # Errors
    ///
    /// Those of the [session](super#errors).
    pub async fn keys(&self) -> Result<Vec<String>, SessionError> {
        Ok(self.engine.load(&self.key).await?.data.keys().map(str::to_owned).collect())
    }

    /// Removes all values. The session stays open.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn clear(&self) -> Result<(), SessionError> {
        self.update_all(|data| {
            data.clear();
            Ok(())
        })
        .await
    }

    /// Ends the session and deletes its values. A later write begins a new session, except under a handle, which is unknown from now
    /// on.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unknown`] for a handle that has ended already, and those of the [session](super#errors).
    pub async fn end(&self) -> Result<(), SessionError> {
        match self.engine.end(&self.key).await? {
            false if self.key.handle.is_some() => Err(SessionError::Unknown),
            _ => Ok(()),
        }
    }

    /// Changes the value of `key`, starting from its default where there is none. No change of another call is lost: where another
    /// call wrote first, `change` is applied again to the current value. So it may run several times, and only its last run counts.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set), [`SessionError::Undecodable`], and [`SessionError::Conflict`] where other writers were first at each
    /// attempt.
    pub async fn update<T, R>(&self, key: &str, mut change: impl FnMut(&mut T) -> R + Send) -> Result<R, SessionError>
    where
        T: Default + Serialize + DeserializeOwned,
        R: Send,
    {
        self.update_all(|data| {
            let mut value = data.get(key)?.unwrap_or_default();
            let answer = change(&mut value);
            data.set(key, &value)?;
            Ok(answer)
        })
        .await
    }

    /// Changes several values at once, as [`update`](Self::update) changes one. An error of `change` changes nothing.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), and those that `change` returns.
    pub async fn update_all<R: Send>(
        &self,
        change: impl FnMut(&mut Data) -> Result<R, SessionError> + Send,
    ) -> Result<R, SessionError> {
        self.engine.change(&self.key, change).await
    }

    /// Reads everything once, for several operations. [`Draft::commit`] writes the changes back.
    ///
    /// # Errors
    ///
    /// Those of the [session](super#errors).
    pub async fn load(&self) -> Result<Draft, SessionError> {
        let found = self.engine.load(&self.key).await?;
        Ok(Draft { session: self.clone(), is_changed: false, found })
    }

    /// Moves the session to a new handle and returns it. The old handle is unknown from now on. Call it when the caller gets more rights,
    /// so that a person who has seen the old handle does not.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotRenewable`] unless the session has a handle, and as [`update`](Self::update).
    pub async fn renew(&self) -> Result<Self, SessionError> {
        if self.key.handle.is_none() {
            return Err(SessionError::NotRenewable);
        }
        let key = self.key.renewed(self.engine.namespace(), new_handle()?);
        self.engine.renew(&self.key, &key).await?;
        Ok(Self { engine: self.engine.clone(), key: Arc::new(key) })
    }

    /// Returns the handle of the session, or `None` in a mode without handles.
    #[must_use]
    pub fn handle(&self) -> Option<&str> {
        self.key.handle.as_deref()
    }
}

impl fmt::Debug for Session {
    /// Without the id: a reader of the log must not be able to use the session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("mode", &self.engine.settings.mode).finish_non_exhaustive()
    }
}

/// A loaded session, which is read and changed without a round trip. Created by [`Session::load`], written by [`commit`](Self::commit).
#[must_use = "only `commit` writes the changes"]
pub struct Draft {
    session: Session,
    is_changed: bool,
    found: Found,
}

impl Draft {
    /// Writes the changes. Without a change, it writes nothing.
    ///
    /// # Errors
    ///
    /// [`SessionError::Conflict`] if another writer has changed the session since it was loaded: load it again, or use
    /// [`Session::update_all`]. And as [`Session::set`].
    pub async fn commit(self) -> Result<(), SessionError> {
        match self.is_changed {
            true => self.session.engine.commit(&self.session.key, &self.found).await,
            false => Ok(()),
        }
    }
}

impl Deref for Draft {
    type Target = Data;

    fn deref(&self) -> &Data {
        &self.found.data
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut Data {
        self.is_changed = true;
        &mut self.found.data
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("data", &self.found.data).finish_non_exhaustive()
    }
}
