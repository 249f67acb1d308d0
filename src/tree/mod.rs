mod attributes;
mod content;
mod node;
mod numbers;
mod remembered;
mod views;
