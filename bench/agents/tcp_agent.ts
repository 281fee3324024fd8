/** The other process of the TCP floors. */
import net from 'node:net';
import { serve } from '../harness/agent.js';
import type { Sample } from '../harness/plan.js';

const handlers = {
  /** Counts bytes until the sender ends. */
  sink({ port }: { port: number }): Promise<Sample> {
    const buffer = Buffer.allocUnsafe(2 ** 20);
    return new Promise((resolve, reject) => {
      let operations = 0;
      let start = 0;
      const onread = {
        buffer,
        callback: (length: number) => {
          if (operations === 0) start = performance.now();
          operations += length;
          return true;
        },
      };
      const socket = net.connect({ host: '127.0.0.1', port, onread });
      socket.on('error', reject);
      socket.on('end', () => {
        socket.end();
        resolve({ operations, seconds: (performance.now() - start) / 1000 });
      });
    });
  },

  /** Sends back what comes. */
  echo({ port }: { port: number }): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host: '127.0.0.1', port, noDelay: true });
      socket.on('data', (data) => socket.write(data));
      socket.on('error', reject);
      socket.on('close', () => resolve());
    });
  },
};

export type TcpAgent = typeof handlers;

serve(handlers);
