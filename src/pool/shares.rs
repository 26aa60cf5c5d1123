//! Who may have how much of the budget: pure. An app's *share* is the part of the units that its weight gives it among
//! all apps that are there, and its *standing* is what it holds in relation to its weight.
//!
//! The rules:
//!
//! - The last units, an eighth of all (the *reserve*), are only for apps under their share: whoever asks for little
//!   finds room, however many requests another app has in flight. Everything else is for whoever comes, so nothing lies
//!   idle for the sake of fairness.
//! - What becomes free goes to the app that stands lowest among those that wait, the longest waiting one of equals.
//! - An app gives up what it has for one that stands lower, even if requests of its own wait. It gives up what it does not
//!   need just now for any other, but nothing that would only go to the reserve.
//!
//! The instances of a release that is being drained count as its app's.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// The part of the limit that is kept for apps under their share.
const RESERVE: u32 = 8;

/// What each app holds of the units.
#[derive(Debug, Default)]
pub struct Shares {
    /// Units that may be held now; what is held may be more after it was lowered.
    limit: u32,
    held: u32,
    /// Of all accounts.
    weight: u64,
    names: HashMap<Arc<str>, Account>,
    accounts: HashMap<Account, Entry>,
    next: u64,
}

/// An app, as the budget knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account(u64);

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    weight: u32,
    held: u32,
    /// Pools of the app: one for each release that still has something.
    pools: u32,
}

/// What an app holds in relation to its weight, less first.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    held: u32,
    weight: u32,
}

impl Shares {
    pub fn new(limit: u32) -> Self {
        Self { limit, ..Self::default() }
    }

    /// One more pool of an app, whose weight is this one from now on.
    pub fn open(&mut self, app: &str, weight: u32) -> Account {
        let weight = weight.max(1);
        let account = self.names.get(app).copied().unwrap_or_else(|| {
            self.next += 1;
            let (account, name) = (Account(self.next), Arc::<str>::from(app));
            self.names.insert(name.clone(), account);
            self.accounts.insert(account, Entry { name, weight: 0, held: 0, pools: 0 });
            account
        });
        if let Some(entry) = self.accounts.get_mut(&account) {
            self.weight = self.weight - u64::from(entry.weight) + u64::from(weight);
            entry.weight = weight;
            entry.pools += 1;
        }
        account
    }

    /// One pool of the app less. It holds nothing any more.
    pub fn close(&mut self, account: Account) {
        let Some(entry) = self.accounts.get_mut(&account) else { return };
        entry.pools = entry.pools.saturating_sub(1);
        if entry.pools == 0
            && let Some(entry) = self.accounts.remove(&account)
        {
            self.names.remove(&entry.name);
            self.weight -= u64::from(entry.weight);
        }
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Units that all hold together.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Units up to the limit that nobody holds.
    pub fn free(&self) -> u32 {
        self.limit.saturating_sub(self.held)
    }

    /// Takes units, if the app may have so many more now.
    pub fn take(&mut self, account: Account, units: u32) -> bool {
        let may = self.may_take(account, units);
        if may && let Some(entry) = self.accounts.get_mut(&account) {
            entry.held += units;
            self.held += units;
        }
        may
    }

    pub fn give_back(&mut self, account: Account, units: u32) {
        self.held = self.held.saturating_sub(units);
        if let Some(entry) = self.accounts.get_mut(&account) {
            entry.held = entry.held.saturating_sub(units);
        }
    }

    /// May the app have so many more?
    pub fn may_take(&self, account: Account, units: u32) -> bool {
        self.could_take(account, units, 0)
    }

    /// The same, if others gave up so many.
    pub fn could_take(&self, account: Account, units: u32, given_up: u32) -> bool {
        let free = self.limit.saturating_sub(self.held.saturating_sub(given_up));
        let Some(rest) = free.checked_sub(units) else { return false };
        let Some(entry) = self.accounts.get(&account) else { return false };
        // Its first instance every app gets, however small its share is.
        rest >= self.reserve() || entry.held == 0 || entry.held + units <= self.share(entry.weight)
    }

    pub fn standing(&self, account: Account) -> Standing {
        let entry = self.accounts.get(&account);
        entry.map_or(Standing { held: u32::MAX, weight: 1 }, |entry| Standing {
            held: entry.held,
            weight: entry.weight,
        })
    }

    /// Should `rich` give up units that it holds for `poor`, which needs `units` more? Only if it stood higher then even
    /// without them, or if `poor` has nothing: else the two would give to each other in turn.
    pub fn yields(&self, rich: Account, poor: Account, units: u32) -> bool {
        let (rich, poor) = (self.standing(rich), self.standing(poor));
        let after = Standing { held: poor.held.saturating_add(units), ..poor };
        poor.held == 0 || after.cmp(&rich) == Ordering::Less
    }

    /// Would `units` that others give up be of no use to the app, since they go to the reserve, which is not for it?
    pub fn only_fills_reserve(&self, account: Account, units: u32, given_up: u32) -> bool {
        let is_room = self.held.saturating_add(units) <= self.limit.saturating_add(given_up);
        is_room && !self.could_take(account, units, given_up)
    }

    /// Units that an app of this weight is entitled to; rounded up, so that who stands lowest is never held up by a
    /// fraction of one while another is not.
    fn share(&self, weight: u32) -> u32 {
        let share = (u64::from(self.limit) * u64::from(weight)).div_ceil(self.weight.max(1));
        u32::try_from(share).unwrap_or(u32::MAX)
    }

    fn reserve(&self) -> u32 {
        if self.accounts.len() > 1 { self.limit / RESERVE } else { 0 }
    }
}

impl Ord for Standing {
    fn cmp(&self, other: &Self) -> Ordering {
        let mine = u64::from(self.held) * u64::from(other.weight);
        mine.cmp(&(u64::from(other.held) * u64::from(self.weight)))
    }
}

impl PartialOrd for Standing {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Standing {}

#[cfg(test)]
mod tests;
