"""From task results to what people look at: summary, paired differences, tables, figures, activation maps."""
