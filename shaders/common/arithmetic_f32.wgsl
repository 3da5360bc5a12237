// Products are taken in f32.
alias Real = f32;
