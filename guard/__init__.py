"""What stands at every open port of either side: bounds on connections, token buckets, what a log may say."""
