// Products are taken in f16, four at a time; what they add up to is added up in f32.
enable f16;
alias Real = f16;
