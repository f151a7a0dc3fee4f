//! How the compositors of tests and benchmarks say what they do with a request.

/// `wayland_server::Dispatch` for the caller's `State`, without what every implementation says alike.
#[macro_export]
macro_rules! requests {
    ($interface:ty, $data:ty, |$state:ident, $resource:ident, $request:ident, $user:ident, $handle:ident, $init:ident| $body:expr) => {
        impl ::wayland_server::Dispatch<$interface, $data> for State {
            fn request(
                $state: &mut Self,
                _: &::wayland_server::Client,
                $resource: &$interface,
                $request: <$interface as ::wayland_server::Resource>::Request,
                $user: &$data,
                $handle: &::wayland_server::DisplayHandle,
                $init: &mut ::wayland_server::DataInit<'_, Self>,
            ) {
                $body
            }
        }
    };
}
