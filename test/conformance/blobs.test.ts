// Blobs by every way to push them, in one process.
import { startServer } from '../support/server.ts';
import { testBlobs } from './blobs.ts';

testBlobs(startServer);
