"""The layouts of TVQA, LongTVQA and LongTVQA+."""
