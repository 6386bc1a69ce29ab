//! The kinds, each a trait with a method a method of the schema; order, idempotence and meaning are written there.
//! Methods with a body here are optional.
use crate::call::{Call, RawCall, Reply, Stream};
use crate::fb;
use crate::module::{Kind as KindOf, Module};

macro_rules! kind {
    ($(#[$doc:meta])* $space:ident, $name:literal, $revision:literal, $Trait:ident {
        $($method:ident $number:path, $style:ident $Query:ty => $Answer:ty $(, or $default:expr)?;)*
    }) => {
        $(#[$doc])*
        pub mod $space {
            use super::*;
            pub trait $Trait: Module {
                $(kind!(@method $style $method $Query, $Answer $(, $default)?);)*
            }
            /// For `export_module!` and tests.
            pub struct Kind;
            impl<M: $Trait> KindOf<M> for Kind {
                const NAME: &'static str = concat!($name, "\0");
                const REVISION: u16 = $revision;
                #[allow(unused_variables)]
                fn dispatch(module: &mut M, call: RawCall<'_>) {
                    $(if call.method == kind!(@number $number) {
                        return kind!(@dispatch $style module, call, $method, $Query, $Answer);
                    })*
                    call.unimplemented()
                }
            }
        }
    };
    (@number $n:path) => { crate::kinds::Number::number($n) };
    (@method call $method:ident $Query:ty, $Answer:ty) => {
        fn $method(&mut self, request: $Query, call: &mut Call<'_, $Answer>) -> Reply<$Answer>;
    };
    (@method call $method:ident $Query:ty, $Answer:ty, $default:expr) => {
        fn $method(&mut self, _request: $Query, _call: &mut Call<'_, $Answer>) -> Reply<$Answer> {
            $default
        }
    };
    (@method stream $method:ident $Query:ty, $Answer:ty) => {
        fn $method(&mut self, request: $Query, stream: Stream<$Answer>);
    };
    (@method stream $method:ident $Query:ty, $Answer:ty, $default:expr) => {
        /// Keep the stream as long as it has something to say.
        fn $method(&mut self, _request: $Query, stream: Stream<$Answer>) {
            stream.finish($default)
        }
    };
    (@method bare_stream $method:ident $Query:ty, $Answer:ty) => {
        fn $method(&mut self, stream: Stream<$Answer>);
    };
    (@dispatch call $m:ident, $c:ident, $method:ident, $Query:ty, $Answer:ty) => {
        $c.answer::<$Query, $Answer>(|q, call| $m.$method(q, call))
    };
    (@dispatch stream $m:ident, $c:ident, $method:ident, $Query:ty, $Answer:ty) => {
        $c.stream::<$Query, $Answer>(|q, s| $m.$method(q, s))
    };
    (@dispatch bare_stream $m:ident, $c:ident, $method:ident, $Query:ty, $Answer:ty) => {
        $c.stream_raw::<$Answer>(|s| $m.$method(s))
    };
}

/// Method ids are enums in the schemas, common ones plain numbers.
pub(crate) trait Number {
    fn number(self) -> u32;
}
impl Number for u32 {
    fn number(self) -> u32 {
        self
    }
}
macro_rules! numbers {
    ($($space:ident)*) => { $(impl Number for fb::$space::Method { fn number(self) -> u32 { self.0 } })* };
}
numbers!(allocator authenticator authorizer election fetcher image isolator store);

fn done<T: Default>() -> Reply<T> {
    Reply::Now(Ok(T::default()))
}

kind! {
    /// One concern of a container on an agent.
    isolator, "isolator", 1, Isolator {
        recover crate::abi::METHOD_RECOVER, call fb::isolator::Recover<'_> => fb::isolator::RecoveredT, or done();
        prepare fb::isolator::Method::PREPARE, call fb::isolator::Prepare<'_> => fb::isolator::PreparedT;
        attach fb::isolator::Method::ATTACH, call fb::isolator::Attach<'_> => (), or done();
        watch fb::isolator::Method::WATCH, stream fb::isolator::Watch<'_> => fb::isolator::LimitedT, or Ok(());
        update fb::isolator::Method::UPDATE, call fb::isolator::Update<'_> => (), or done();
        usage fb::isolator::Method::USAGE, call fb::isolator::UsageRequest<'_> => fb::isolator::UsagesT, or done();
        cleanup fb::isolator::Method::CLEANUP, call fb::isolator::Cleanup<'_> => ();
    }
}
kind! {
    /// Proves who speaks.
    authenticator, "authenticator", 1, Authenticator {
        authenticate fb::authenticator::Method::AUTHENTICATE, call fb::authenticator::Credentials<'_> => fb::authenticator::IdentityT;
        challenge fb::authenticator::Method::CHALLENGE, call fb::authenticator::Challenge<'_> => fb::authenticator::ChallengeT;
    }
}
kind! {
    /// Says who may do what. `changed` keeps its stream and sends on it whenever verdicts may differ from those given before.
    authorizer, "authorizer", 1, Authorizer {
        authorize fb::authorizer::Method::AUTHORIZE, call fb::authorizer::Questions<'_> => fb::authorizer::VerdictsT;
        changed fb::authorizer::Method::CHANGED, bare_stream () => ();
    }
}
kind! {
    /// Who is offered what. Rounds never overlap.
    allocator, "allocator", 1, Allocator {
        allocate fb::allocator::Method::ALLOCATE, call fb::allocator::Deltas<'_> => fb::allocator::RoundT;
    }
}
kind! {
    /// Brings artifacts into a sandbox.
    fetcher, "fetcher", 1, Fetcher {
        fetch fb::fetcher::Method::FETCH, call fb::fetcher::Fetch<'_> => ();
    }
}
kind! {
    /// Brings images and keeps their layers. `pull` ends with the image; it tells no progress on the way.
    image, "image", 1, Images {
        recover crate::abi::METHOD_RECOVER, call fb::image::Recover<'_> => fb::image::RecoveredT, or done();
        pull fb::image::Method::PULL, call fb::image::Pull<'_> => fb::image::ImageT;
        release fb::image::Method::RELEASE, call fb::image::Release<'_> => ();
        inspect fb::image::Method::INSPECT, call fb::image::Inspect<'_> => fb::image::ImageT;
        list fb::image::Method::LIST, call fb::image::List<'_> => fb::image::ImagesT;
        prune fb::image::Method::PRUNE, call fb::image::Prune<'_> => fb::image::PrunedT;
    }
}
kind! {
    /// Small keyed records that survive.
    store, "store", 1, Store {
        get fb::store::Method::GET, call fb::store::Get<'_> => fb::store::RecordT;
        commit fb::store::Method::COMMIT, call fb::store::Commit<'_> => fb::store::CommittedT;
        list fb::store::Method::LIST, stream fb::store::List<'_> => fb::store::RecordsT;
    }
}
kind! {
    /// Who leads.
    election, "election", 1, Election {
        contend fb::election::Method::CONTEND, stream fb::election::Candidate<'_> => fb::election::LeadershipT;
        watch fb::election::Method::WATCH, bare_stream () => fb::election::LeaderT;
    }
}
kind! {
    /// A framework inside the daemon: it only uses host services and the common methods.
    framework, "framework", 1, Framework {
    }
}
kind! {
    /// Serves a protocol of the outside world: it only uses host services and the common methods.
    gateway, "gateway", 1, Gateway {
    }
}
