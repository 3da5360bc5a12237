//! The clock: the standard library's, and in a browser, where that one panics, the browser's.

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub(crate) use std::time::Instant;

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub(crate) use browser::Instant;

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod browser {
    use std::time::Duration;

    use js_sys::{Date, Function, Reflect, global};
    use wasm_bindgen::{JsCast as _, JsValue};

    thread_local! {
        /// `performance` and its `now`; `None` in an AudioWorklet, which has neither.
        static NOW: Option<(JsValue, Function)> = {
            let performance = Reflect::get(&global(), &"performance".into()).ok();
            performance.and_then(|clock| {
                let now = Reflect::get(&clock, &"now".into()).ok()?.dyn_into().ok()?;
                Some((clock, now))
            })
        };
    }

    /// A moment, in milliseconds after a fixed one.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Instant(f64);

    impl Instant {
        pub fn now() -> Self {
            let precise = NOW.with(|clock| clock.as_ref().and_then(|(clock, now)| now.call0(clock).ok()?.as_f64()));
            Self(precise.unwrap_or_else(Date::now))
        }

        pub fn elapsed(self) -> Duration {
            Self::now().duration_since(self)
        }

        /// 0 where `Date.now()` was set back meanwhile.
        pub fn duration_since(self, earlier: Self) -> Duration {
            Duration::try_from_secs_f64((self.0 - earlier.0) / 1000.0).unwrap_or_default()
        }
    }
}
