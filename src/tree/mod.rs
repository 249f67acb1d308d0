mod attributes;
mod node;
mod numbers;
mod views;
