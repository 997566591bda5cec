select main.loops_reading() as loops
