//! Locks, taken whether or not whoever held them last panicked: the shipped program ends with a panic (`panic = "abort"`), so
//! that only a test can meet such a lock, and it tells its own panic better than the next thread's.

use std::sync::{LockResult, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Waits for a mutex.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    held(mutex.lock())
}

/// Waits until nobody writes.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    held(lock.read())
}

/// Waits until nobody else reads or writes.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    held(lock.write())
}

/// What a lock, or a condition that was waited for, gave.
pub(crate) fn held<G>(result: LockResult<G>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}
