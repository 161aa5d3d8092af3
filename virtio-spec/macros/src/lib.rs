//! The attribute macro and the emitters of the call table.
