// The memory store keeps the contract.
import { createMemoryStore } from '../../src/state/memory.ts';
import { recordStoreContract } from '../contract/record-store.ts';

recordStoreContract(async ({ now }) => createMemoryStore({ now }));
