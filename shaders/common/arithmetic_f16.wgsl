// Products are taken in f16, four at a time; their sums are added in f32.
enable f16;
alias Real = f16;
