"""How soon a forbidden word stops the model, and what holding costs, beside openai-agents in the same run."""
