//! Makes cargo notice a new migration, which `sqlx::migrate!` alone would miss.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
