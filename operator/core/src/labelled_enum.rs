//! Enums whose variants have a metric label, and their own name in a status.

macro_rules! labelled_enum {
    ($(#[$of_enum:meta])* pub enum $enum:ident { $($(#[$of_variant:meta])* $variant:ident => $label:literal,)* }) => {
        $(#[$of_enum])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $enum { $($(#[$of_variant])* $variant,)* }

        impl $enum {
            /// All of them.
            pub const ALL: [Self; [$($label),*].len()] = [$(Self::$variant,)*];

            /// A metric label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The name in a status.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }
        }
    };
}

pub(crate) use labelled_enum;
