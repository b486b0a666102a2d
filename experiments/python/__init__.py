"""What `import wardround` offers: runs, their results as DataFrames, predictions, and an estimator for scikit-learn."""
