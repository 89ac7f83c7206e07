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

/// What is kept for a caller from one call to the next. Cheap to clone. See the [manual](super).
///
/// Nothing is read before it is asked for, and nothing is kept in between: what another replica has written is seen at once.
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
    /// The call was let through without one.
    None(SessionMode),
}

impl Scoped for Current {
    fn session_id(&self) -> Option<Option<Arc<str>>> {
        Some(match &self.session {
            CurrentSession::Session(session) => Some(Arc::clone(session.key.id())),
            CurrentSession::None(_) => None,
        })
    }
}

impl Session {
    /// Returns the session of the call that runs here, where a [`SessionStore`](super::SessionStore) stands in front of the tool.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoLayer`] where none does, and in a task of its own; [`SessionError::None`] if the call was
    /// [let through](super::SessionStore::optional) without a session.
    pub fn current() -> Result<Self, SessionError> {
        session_opened();
        match scope::current::<Current>().as_deref().map(|current| &current.session) {
            Some(CurrentSession::Session(session)) => Ok(session.clone()),
            Some(CurrentSession::None(mode)) => Err(SessionError::None(*mode)),
            None => Err(SessionError::NoLayer),
        }
    }

    /// Returns the value of `key`, or `None` where there is none. One read.
    ///
    /// # Errors
    ///
    /// [`SessionError::Undecodable`] if it is not a `T`, and those of the [session](super#errors).
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, SessionError> {
        self.engine.peek(&self.key, key).await
    }

    /// Keeps `value` under `key`, instead of what was there. One write, with a read before it where another replica has written.
    ///
    /// # Errors
    ///
    /// Those of the [session](super#errors); nothing was changed then, but by [`SessionError::Unknowable`].
    pub async fn set<T: Serialize + ?Sized + Sync>(&self, key: &str, value: &T) -> Result<(), SessionError> {
        self.update_all(|data| data.set(key, value)).await
    }

    /// Removes `key`. False if it was not there.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn remove(&self, key: &str) -> Result<bool, SessionError> {
        self.update_all(|data| Ok(data.remove(key))).await
    }

    /// Returns the keys, sorted. One read.
    ///
    /// # Errors
    ///
    /// Those of the [session](super#errors).
    pub async fn keys(&self) -> Result<Vec<String>, SessionError> {
        Ok(self.engine.load(&self.key).await?.data.keys().map(str::to_owned).collect())
    }

    /// Removes everything; the session goes on.
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

    /// Ends the session and forgets what it kept. What is written afterwards begins a new one, but under a handle, which is
    /// unknown from now on.
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

    /// Changes the value of `key`, from its default where there is none. No change of another call is lost: where one came
    /// first, `change` is applied again to what is there then, so it may run several times, and only its last run counts.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set), [`SessionError::Undecodable`], and [`SessionError::Conflict`] where others came first at each try.
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

    /// Changes several values at once, as [`update`](Self::update) changes one. An error of `change` leaves all as they are.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), and what `change` returns.
    pub async fn update_all<R: Send>(
        &self,
        change: impl FnMut(&mut Data) -> Result<R, SessionError> + Send,
    ) -> Result<R, SessionError> {
        self.engine.change(&self.key, change).await
    }

    /// Reads everything once, for several operations. [`Draft::commit`] writes them back.
    ///
    /// # Errors
    ///
    /// Those of the [session](super#errors).
    pub async fn load(&self) -> Result<Draft, SessionError> {
        let found = self.engine.load(&self.key).await?;
        Ok(Draft { session: self.clone(), is_changed: false, found })
    }

    /// Moves the session to a new handle and returns it; the old one is unknown from now on. For when the caller may do more than
    /// before, so that whoever has seen the old handle may not.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotRenewable`] unless the session is named by a handle, and as [`update`](Self::update).
    pub async fn renew(&self) -> Result<Self, SessionError> {
        if self.key.handle.is_none() {
            return Err(SessionError::NotRenewable);
        }
        let key = self.key.renewed(self.engine.namespace(), new_handle()?);
        self.engine.renew(&self.key, &key).await?;
        Ok(Self { engine: self.engine.clone(), key: Arc::new(key) })
    }

    /// Returns the handle of a session that is named by one.
    #[must_use]
    pub fn handle(&self) -> Option<&str> {
        self.key.handle.as_deref()
    }
}

impl fmt::Debug for Session {
    /// Tells no id: who reads the log may not use the session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("mode", &self.engine.settings.mode).finish_non_exhaustive()
    }
}

/// A session as it was loaded, to be read and changed without going to the backend. Made by [`Session::load`].
#[must_use = "changes are kept by `commit`"]
pub struct Draft {
    session: Session,
    is_changed: bool,
    found: Found,
}

impl Draft {
    /// Keeps what was changed; without a change, nothing is written.
    ///
    /// # Errors
    ///
    /// [`SessionError::Conflict`] if anybody has changed the session since it was loaded: load it again, or use
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
