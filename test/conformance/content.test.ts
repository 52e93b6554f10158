// Content of every kind, in one process.
import { startServer } from '../support/server.ts';
import { testContent } from './content.ts';

testContent(() => startServer({ hosted: { sparse: 'allow' } }));
